// Heat maps and time lines of states. Grafana draws them in its server's own program, which is not to be had as a package; here they
// are drawn upon the plot, axes, legend and colours of @grafana/ui, and only the rectangles are ours.
import { formattedValueToString, getDisplayProcessor, getValueFormat } from '@grafana/data';
import { UPlotChart, UPlotConfigBuilder, VizLayout, VizLegend, measureText } from '@grafana/ui';
import * as schemes from 'd3-scale-chromatic';

// A plot whose rows are the numbers from 0 on, each with a label, and `paint` for what is in it.
function gridConfig({ theme, timeRange, labels, ticks, paint }) {
  const builder = new UPlotConfigBuilder('utc');
  builder.addScale({ scaleKey: 'x', isTime: true, orientation: 0, direction: 1, range: () => [timeRange.from.valueOf(), timeRange.to.valueOf()] });
  builder.addScale({ scaleKey: 'y', isTime: false, orientation: 1, direction: 1, range: () => [0, labels.length] });
  builder.addAxis({ scaleKey: 'x', isTime: true, placement: 'bottom', timeZone: 'utc', theme });
  builder.addAxis({ scaleKey: 'y', placement: 'left', theme, grid: { show: false }, size: axisSize(ticks), splits: () => ticks.map(([at]) => at), values: () => ticks.map(([, text]) => text) });
  builder.addSeries({ scaleKey: 'y', theme, pathBuilder: () => null, pointsBuilder: () => null, show: true });
  builder.addHook('draw', (plot) => {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    const x = (time) => plot.valToPos(time, 'x', true);
    const y = (row) => plot.valToPos(row, 'y', true);
    paint((from, to, row, share, color) => {
      const [left, right, top, bottom] = [x(from), x(to), y(row + share), y(row + 1 - share)];
      ctx.fillStyle = color;
      ctx.fillRect(left, top, Math.max(1, right - left), bottom - top);
    });
    ctx.restore();
  });
  return builder;
}

const axisSize = (ticks) => 14 + Math.max(...ticks.map(([, text]) => measureText(text, 12).width));

const plot = (config, width, height) => <UPlotChart config={config} data={[[0, 1], [null, null]]} width={width} height={height} />;

// The scale of colours as Grafana makes it: dark backgrounds turn it round, so that much is always far from the background.
function palette({ scheme, steps, reverse }, theme) {
  const colors = Array.from({ length: steps }, (_, step) => schemes[`interpolate${scheme}`](step / (steps - 1)));
  return theme.isDark !== reverse ? colors.reverse() : colors;
}

export function Heatmap({ panel, data, theme, timeRange, width, height, notes }) {
  const [{ fields: [times, ...rows] }] = data;
  const { color, cellGap, filterValues, yAxis } = panel.options;
  const colors = palette(color, theme);
  const cells = rows.flatMap((row) => row.values.filter((count) => count > filterValues.le));
  const [least, most] = [Math.min(...cells), Math.max(...cells)];
  const colorOf = (count) => colors[most > least ? Math.floor(((count - least) / (most - least)) * (colors.length - 1)) : colors.length - 1];
  const step = times.values[1] - times.values[0];
  const format = getValueFormat(yAxis.unit);
  const bounds = rows.map((row) => row.labels.le);
  const texts = bounds.map((le) => (le === '+Inf' ? le : formattedValueToString(format(Number(le)))));
  // The bound of a row is its upper edge. As many as have room.
  const every = Math.ceil((18 * rows.length) / (height - 60));
  const ticks = texts.map((text, row) => [row + 1, text]).filter((_, row) => row % every === 0);
  notes.units.push(...ticks.map(([, text]) => [yAxis.unit, text]).filter(([, text]) => text !== '+Inf'));
  notes.items = cells.length;
  const config = gridConfig({
    theme, timeRange, labels: bounds, ticks, paint: (cell) => {
      rows.forEach((row, index) => row.values.forEach((count, at) => {
        if (count > filterValues.le) cell(times.values[at] - step + cellGap, times.values[at], index, 0.96, colorOf(count));
      }));
    } });
  const scale = (
    <VizLayout.Legend placement="bottom">
      <div style={{ display: 'flex', gap: 8, alignItems: 'center', justifyContent: 'center', fontSize: 12 }}>
        <span>{Math.round(least)}</span>
        <div style={{ width: 200, height: 8, background: `linear-gradient(to right, ${colors.join(', ')})` }} />
        <span>{Math.round(most)}</span>
      </div>
    </VizLayout.Legend>
  );
  return <VizLayout width={width} height={height} legend={scale}>{(width, height) => plot(config, width, height)}</VizLayout>;
}

// What the colours mean: the words of a mapping, else from where on a threshold's colour holds.
function stateItems(panel, theme) {
  const { mappings, thresholds, unit } = panel.fieldConfig.defaults;
  const display = getDisplayProcessor({ field: { type: 'number', config: { unit, mappings, thresholds: { ...thresholds,
    steps: thresholds.steps.map((step) => ({ ...step, value: step.value ?? -Infinity })) }, color: { mode: 'thresholds' } } }, theme });
  const named = mappings.flatMap(({ options }) => Object.keys(options)).map((value) => {
    const { text, color } = display(Number(value));
    return { label: text, color, yAxis: 1 };
  });
  if (named.length > 0) return named;
  return thresholds.steps.map(({ color, value }, index) => ({
    label: value === null ? `< ${thresholds.steps[index + 1]?.value}` : `${value}+`, color: theme.visualization.getColorByName(color), yAxis: 1 }));
}

export function States({ panel, data, theme, timeRange, width, height, notes }) {
  const { rowHeight, legend } = panel.options;
  const fields = data.map(({ fields: [times, values] }) => ({ times, values }));
  const step = fields[0].times.config.interval;
  const opacity = Math.round((panel.fieldConfig.defaults.custom.fillOpacity / 100) * 255).toString(16).padStart(2, '0');
  const count = fields.length;
  const ticks = fields.map(({ values }, index) => [count - index - 0.5, values.config.displayNameFromDS]);
  notes.items = count;
  const config = gridConfig({
    theme, timeRange, labels: fields, ticks, paint: (cell) => {
      fields.forEach(({ times, values }, index) => values.values.forEach((value, at) => {
        const color = theme.visualization.getColorByName(values.display(value).color);
        cell(times.values[at], times.values[at] + step, count - index - 1, rowHeight, `${color}${opacity}`);
      }));
    } });
  const items = (
    <VizLayout.Legend placement={legend.placement}>
      <VizLegend items={stateItems(panel, theme)} placement={legend.placement} displayMode={legend.displayMode} />
    </VizLayout.Legend>
  );
  return <VizLayout width={width} height={height} legend={items}>{(width, height) => plot(config, width, height)}</VizLayout>;
}
