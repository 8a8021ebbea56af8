// Panels for which @grafana/ui has the component that Grafana itself draws them with.
import { FieldType, VizOrientation, formattedValueToString, getDisplayValueAlignmentFactors, getFieldDisplayValues } from '@grafana/data';
import { BarGauge, BigValue, Table, TimeSeries, VizRepeater } from '@grafana/ui';

// Notes the text of each number beside the unit that it has to be in.
const noting = (units, unit, format) => (...numbers) => {
  const text = format(...numbers);
  units.push([unit, text]);
  return text;
};

export function Lines({ panel, data, theme, timeRange, width, height, notes }) {
  const { legend } = panel.options;
  return (
    <TimeSeries
      frames={data} structureRev={1} theme={theme} timeRange={timeRange} timeZone="utc" width={width} height={height} legend={legend} options={panel.options}
      tweakAxis={(axis, field) => ({ ...axis, formatValue: noting(notes.units, field.config.unit, axis.formatValue) })}
    />
  );
}

const displayValues = (panel, data, fieldConfig, theme, sparkline) => getFieldDisplayValues({
  fieldConfig, reduceOptions: panel.options.reduceOptions, replaceVariables: (text) => text, theme, data, sparkline, timeZone: 'utc' });

const noteValues = (values, panel, notes) => {
  // What a mapping says is a word.
  const words = panel.fieldConfig.defaults.mappings.flatMap(({ options }) => Object.values(options).map(({ text }) => text));
  for (const { display } of values) {
    const text = formattedValueToString(display);
    if (!words.includes(text)) notes.units.push([panel.fieldConfig.defaults.unit, text]);
    else notes.units.push(['short', String(display.numeric)]);
  }
};

export function Stat({ panel, data, fieldConfig, theme, timeRange, width, height, notes }) {
  const { colorMode, graphMode, justifyMode, orientation, textMode, wideLayout } = panel.options;
  const values = displayValues(panel, data, fieldConfig, theme, graphMode !== 'none');
  noteValues(values, panel, notes);
  return (
    <VizRepeater
      getValues={() => values} getAlignmentFactors={getDisplayValueAlignmentFactors} source={data} renderCounter={1} orientation={orientation}
      width={width} height={height} itemSpacing={3} autoGrid
      renderValue={({ value, alignmentFactors, count, width, height }) => (
        <BigValue
          value={value.display} count={count} sparkline={value.sparkline && { ...value.sparkline, timeRange }} colorMode={colorMode} graphMode={graphMode}
          justifyMode={justifyMode} textMode={textMode} alignmentFactors={alignmentFactors} disableWideLayout={!wideLayout} theme={theme} width={width} height={height}
        />
      )}
    />
  );
}

export function Bars({ panel, data, fieldConfig, theme, width, height, notes }) {
  const { displayMode, orientation, showUnfilled, valueMode } = panel.options;
  const values = displayValues(panel, data, fieldConfig, theme, false);
  noteValues(values, panel, notes);
  return (
    <VizRepeater
      getValues={() => values} getAlignmentFactors={getDisplayValueAlignmentFactors} source={data} renderCounter={1} orientation={orientation}
      width={width} height={height} minVizWidth={8} minVizHeight={16} maxVizHeight={300} itemSpacing={displayMode === 'lcd' ? 2 : 10}
      renderValue={({ value, alignmentFactors, orientation, width, height }) => (
        <BarGauge
          value={value.display} field={value.field} display={value.view?.getFieldDisplayProcessor(value.colIndex)} theme={theme} alignmentFactors={alignmentFactors}
          orientation={orientation ?? VizOrientation.Horizontal} displayMode={displayMode} showUnfilled={showUnfilled} valueDisplayMode={valueMode} width={width} height={height}
        />
      )}
    />
  );
}

export function Rows({ panel, data, width, height, timeRange, fieldConfig, notes }) {
  const [frame] = data;
  const { cellHeight, showHeader } = panel.options;
  notes.headings = frame.fields.map((field) => field.config.displayName || field.name);
  notes.cells = Array.from({ length: frame.length }, (_, row) => frame.fields.map((field) => {
    const value = field.display(field.values[row]);
    const text = formattedValueToString(value);
    if (field.type === FieldType.number && text !== '') notes.units.push([field.config.unit, text]);
    return { text, color: value.color };
  }));
  return <Table data={frame} width={width} height={height} noHeader={!showHeader} cellHeight={cellHeight} timeRange={timeRange} fieldConfig={fieldConfig} initialSortBy={panel.options.sortBy} resizable={false} />;
}
