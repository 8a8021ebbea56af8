"use strict";
Object.defineProperty(exports, "__esModule", { value: true });
exports.ledger = exports.Ledger = void 0;
class Ledger {
    constructor(invoices) {
        this.invoices = invoices;
        this.totals = {};
    }
    settleInvoices(ms) {
        let rounds = 0;
        for (const end = Date.now() + ms; Date.now() < end; rounds++) {
            for (const { id, cents } of this.invoices) {
                const day = `day ${id % 7}`;
                this.totals[day] = (this.totals[day] ?? 0) + cents;
            }
        }
        return rounds;
    }
}
exports.Ledger = Ledger;
exports.ledger = new Ledger(Array.from({ length: 1000 }, (_, id) => ({ id, cents: id * 99 })));
//# sourceMappingURL=invoices.js.map