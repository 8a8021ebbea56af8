// Draws the board of window.DRAWING: { board, results, width, from, to, step }, and writes what it has drawn into <pre id="answer">.
import { createTheme, dateTime } from '@grafana/data';
import { GlobalStyles, PanelChrome, ThemeContext } from '@grafana/ui';
import { createRoot } from 'react-dom/client';
import { prepare } from './fields.js';
import { framesOf } from './frames.js';
import { Heatmap, States } from './grid.jsx';
import { Bars, Lines, Rows, Stat } from './panels.jsx';
import { report } from './report.js';

const KINDS = { timeseries: Lines, stat: Stat, bargauge: Bars, table: Rows, heatmap: Heatmap, 'state-timeline': States };
const [COLUMNS, ROW, GAP] = [24, 30, 8];
const { board, results, width, from, to, step } = window.DRAWING;
const theme = createTheme({ colors: { mode: 'dark' } });
const timeRange = { from: dateTime(from * 1000), to: dateTime(to * 1000), raw: { from: 'now-1h', to: 'now' } };

// Where Grafana's grid puts it.
function place({ x, y, w, h }) {
  const column = (width - GAP) / COLUMNS;
  return { position: 'absolute', left: GAP + x * column, top: GAP + y * (ROW + GAP), width: w * column - GAP, height: h * (ROW + GAP) - GAP };
}

function Drawn({ panel, prepared, notes }) {
  const box = place(panel.gridPos);
  if (panel.type === 'row') {
    return <div style={{ ...box, fontSize: theme.typography.h5.fontSize, fontWeight: 500, lineHeight: `${box.height}px` }}>⌄ {panel.title}</div>;
  }
  const Kind = KINDS[panel.type];
  return (
    <div id={`panel-${panel.id}`} style={box}>
      <PanelChrome title={panel.title} description={panel.description} width={box.width} height={box.height}>
        {(width, height) => (prepared.data.length > 0
          ? <Kind panel={panel} {...prepared} theme={theme} timeRange={timeRange} width={width} height={height} notes={notes} />
          : <div style={{ textAlign: 'center', paddingTop: height / 2 - 10 }}>No data</div>)}
      </PanelChrome>
    </div>
  );
}

async function main() {
  const drawn = await Promise.all(board.panels.map(async (panel) => ({
    panel, notes: { units: [] },
    prepared: panel.type === 'row' ? null : await prepare(panel, framesOf(panel, results[panel.id], step), theme),
  })));
  createRoot(document.getElementById('root')).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      {drawn.map((one) => <Drawn key={one.panel.id} {...one} />)}
    </ThemeContext.Provider>,
  );
  // Plots, tables and icons come when the browser finds the time.
  let told;
  for (let waited = 0; waited < 40; waited++) {
    await new Promise((resolve) => setTimeout(resolve, 250));
    told = report(drawn.filter(({ panel }) => panel.type !== 'row'));
    if (waited > 4 && told.panels.every(({ painted, units, type }) => painted && (units.length > 0 || type === 'state-timeline'))) break;
  }
  return told;
}

main().catch((error) => ({ panels: [], overlaps: [], faults: [...window.FAULTS, String(error.stack ?? error)] })).then((told) => {
  const answer = document.createElement('pre');
  answer.id = 'answer';
  answer.textContent = JSON.stringify(told);
  const unseen = document.createElement('div');
  unseen.hidden = true;
  unseen.append(answer);
  document.body.append(unseen);
});
