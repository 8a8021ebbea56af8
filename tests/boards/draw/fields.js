// Grafana's own transformations and its own rules for what applies to a field: defaults, overrides, units, colours, links.
import { FieldConfigOptionsRegistry, applyFieldOverrides, standardTransformers, standardTransformersRegistry, transformDataFrame } from '@grafana/data';
import { firstValueFrom } from 'rxjs';

// Some are listed under two names.
standardTransformersRegistry.setInit(() => [...new Map(Object.values(standardTransformers).map((one) => [one.id, one])).values()]
  .map((transformation) => ({ id: transformation.id, name: transformation.name, transformation, editor: null })));

// The server registers an editor with each property; without the editors, these are all that the boards may set.
const STANDARD = ['unit', 'min', 'max', 'decimals', 'color', 'thresholds', 'mappings', 'links', 'noValue', 'displayName'];
const CUSTOM = ['drawStyle', 'lineInterpolation', 'lineWidth', 'lineStyle', 'fillOpacity', 'showPoints', 'spanNulls', 'stacking', 'axisPlacement', 'axisLabel',
  'axisSoftMin', 'axisSoftMax', 'thresholdsStyle', 'scaleDistribution', 'align', 'cellOptions', 'filterable', 'width', 'minWidth', 'hideFrom'];
const property = (path, isCustom) => ({
  id: isCustom ? `custom.${path}` : path, path, name: path, isCustom, settings: {}, override: null, editor: null,
  process: (value) => value, shouldApply: () => true,
});
const registry = new FieldConfigOptionsRegistry(() => [
  ...STANDARD.map((path) => property(path, false)), ...CUSTOM.map((path) => property(path, true))]);

// A property that nobody knows here would be silently left out, and the picture would be wrong.
function checkProperties(panel) {
  const { defaults, overrides } = panel.fieldConfig;
  const used = [...Object.keys(defaults).filter((key) => key !== 'custom'), ...Object.keys(defaults.custom ?? {}).map((key) => `custom.${key}`),
    ...overrides.flatMap(({ properties }) => properties.map(({ id }) => id))];
  const unknown = used.filter((id) => !registry.getIfExists(id));
  if (unknown.length > 0) throw new Error(`${panel.title}: this page does not know ${unknown}`);
}

// As Grafana reads a board: the lowest step of thresholds has no number in JSON.
const thresholds = (value) => ({ ...value, steps: value.steps.map((step) => ({ ...step, value: step.value ?? -Infinity })) });

function fieldConfigOf({ defaults, overrides }) {
  return {
    defaults: { ...defaults, thresholds: thresholds(defaults.thresholds) },
    overrides: overrides.map((override) => ({ ...override, properties: override.properties.map(
      ({ id, value }) => ({ id, value: id === 'thresholds' ? thresholds(value) : value })) })),
  };
}

export async function prepare(panel, frames, theme) {
  checkProperties(panel);
  const transformed = await firstValueFrom(transformDataFrame(panel.transformations ?? [], frames));
  const fieldConfig = fieldConfigOf(panel.fieldConfig);
  const data = applyFieldOverrides({
    data: transformed, fieldConfig, fieldConfigRegistry: registry, replaceVariables: (text) => text, theme, timeZone: 'utc' });
  return { data, fieldConfig };
}
