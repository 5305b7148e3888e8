// Images of the probe, cut out of one sheet, with what is known about them.

const { sprite, probe } = payload;

// One blob instead of a data URI in every style: the browser decodes it once.
const sheetUrl = (() => {
  const [, data] = sprite.data_uri.split(',');
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type: 'image/webp' }));
})();
document.head.append(element('style', {}, `.thumb { background-image: url("${sheetUrl}"); }`));

function thumbnail(sample, side) {
  const small = sprite.side < 64 ? ' small-pixels' : '';
  const made = element('span', { class: `thumb${small}`, role: 'img', 'aria-label': probe.files[sample] });
  const column = sample % sprite.columns;
  const row = Math.floor(sample / sprite.columns);
  Object.assign(made.style, {
    width: `${side}px`,
    height: `${side}px`,
    backgroundSize: `${sprite.columns * side}px ${sprite.rows * side}px`,
    backgroundPosition: `-${column * side}px -${row * side}px`,
  });
  return made;
}

const labelText = (sample) => (probe.labels === null ? null : probe.class_names[probe.labels[sample]]);

// "predicted cat (87%)", coloured only where the folder's classes are the model's.
function predictionLine(run, sample) {
  if (run.predictions === null) return null;
  const predicted = run.predictions[sample];
  const text = `predicted ${run.output_names[predicted]} (${percent(run.confidences[sample])})`;
  if (!run.comparable) return element('div', {}, text);
  const right = predicted === probe.labels[sample];
  return element('div', { class: right ? 'right' : 'wrong' }, `${right ? '✓' : '✗'} ${text}`);
}

function imageLines(runs, sample) {
  const label = labelText(sample);
  const named = runs.length > 1 ? ['first: ', 'second: '] : [''];
  return [
    label === null ? null : element('div', { class: 'label' }, `label ${label}`),
    ...runs.map((run, at) => {
      const line = predictionLine(run, sample);
      if (line !== null && named[at]) line.prepend(named[at]);
      return line;
    }),
    element('div', { class: 'file' }, probe.files[sample]),
  ];
}

function imageCard(runs, sample, options = {}, ...extra) {
  const lines = imageLines(runs, sample).concat(extra).filter((line) => line !== null);
  return element('div', { class: 'card', 'data-sample': sample, ...options }, thumbnail(sample, 96), ...lines);
}

function showTooltip(runs, sample, event, ...extra) {
  const tooltip = byId('tooltip');
  fill(tooltip, thumbnail(sample, 128), ...imageLines(runs, sample), ...extra);
  tooltip.dataset.sample = sample;
  tooltip.hidden = false;
  const { width, height } = tooltip.getBoundingClientRect();
  const left = event.clientX + 18 + width > innerWidth ? event.clientX - 18 - width : event.clientX + 18;
  const top = Math.min(Math.max(8, event.clientY - height / 2), innerHeight - height - 8);
  Object.assign(tooltip.style, { left: `${Math.max(8, left)}px`, top: `${top}px` });
}

function hideTooltip() {
  byId('tooltip').hidden = true;
}
