// What Prometheus answered, as Grafana's data source makes data frames of it.
import { FieldType, createDataFrame } from '@grafana/data';

const times = (points, step) => ({
  name: 'Time', type: FieldType.time, values: points.map(([time]) => time * 1000),
  // From this on a gap is a gap and no line is drawn over it.
  config: { interval: step * 1000 },
});
const pointsOf = (series) => series.values ?? [series.value];
const number = (text) => (text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text));
const legend = (format, labels) => format.replace(/\{\{\s*(.+?)\s*\}\}/g, (_, label) => labels[label] ?? '');

const seriesFrames = ({ refId, legendFormat }, series, step) => series.map((one) => {
  const points = pointsOf(one);
  return createDataFrame({ refId, fields: [
    times(points, step),
    { name: 'Value', type: FieldType.number, labels: one.metric, values: points.map(([, value]) => number(value)),
      config: { displayNameFromDS: legend(legendFormat, one.metric) } },
  ] });
});

// One row per series. A panel with a single query has a column `Value`, one with several `Value #A` and so on.
function tableFrame({ refId }, series, queries) {
  const labels = [...new Set(series.flatMap((one) => Object.keys(one.metric)))].sort();
  return createDataFrame({ refId, meta: { preferredVisualisationType: 'table' }, fields: [
    { name: 'Time', type: FieldType.time, config: {}, values: series.map((one) => one.value[0] * 1000) },
    ...labels.map((label) => ({
      name: label, type: FieldType.string, config: { filterable: true }, values: series.map((one) => one.metric[label] ?? '') })),
    { name: queries > 1 ? `Value #${refId}` : 'Value', type: FieldType.number, config: {}, values: series.map((one) => number(one.value[1])) },
  ] });
}

// Buckets that count all below their bound become rows that count what is in them.
function rowsFrame({ refId }, series) {
  const sorted = [...series].sort((a, b) => number(a.metric.le) - number(b.metric.le));
  const at = [...new Set(sorted.flatMap((one) => pointsOf(one).map(([time]) => time)))].sort((a, b) => a - b);
  const counts = sorted.map((one) => {
    const found = new Map(pointsOf(one).map(([time, value]) => [time, number(value)]));
    return at.map((time) => found.get(time) ?? 0);
  });
  return createDataFrame({ refId, meta: { type: 'heatmap-rows' }, fields: [
    { name: 'Time', type: FieldType.time, config: {}, values: at.map((time) => time * 1000) },
    ...sorted.map(({ metric }, row) => ({
      name: metric.le, type: FieldType.number, labels: metric, config: {},
      values: counts[row].map((count, index) => Math.max(0, count - (row > 0 ? counts[row - 1][index] : 0))) })),
  ] });
}

export function framesOf(panel, results, step) {
  return panel.targets.flatMap((target, index) => {
    const series = results[index];
    if (series.length === 0) return [];
    if (target.format === 'table') return [tableFrame(target, series, panel.targets.length)];
    if (target.format === 'heatmap') return [rowsFrame(target, series)];
    return seriesFrames(target, series, step);
  });
}
