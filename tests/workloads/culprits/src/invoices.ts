// Compiled to ../dist/invoices.js; see ../../README.md.
export interface Invoice {
  readonly id: number;
  readonly cents: number;
}

type Totals = Record<string, number>;

export class Ledger {
  private readonly totals: Totals = {};

  constructor(private readonly invoices: readonly Invoice[]) {}

  settleInvoices(ms: number): number {
    let rounds = 0;
    for (const end: number = Date.now() + ms; Date.now() < end; rounds++) {
      for (const { id, cents } of this.invoices) {
        const day = `day ${id % 7}`;
        this.totals[day] = (this.totals[day] ?? 0) + cents;
      }
    }
    return rounds;
  }
}

export const ledger = new Ledger(Array.from({ length: 1000 }, (_, id): Invoice => ({ id, cents: id * 99 })));
