// The thresholds' sliders.

function sliderSpecs(criteria) {
  const n = payload.n_samples;
  const most = Math.max(1, Math.min(n - 1, Math.max(Math.ceil(n / 10), 2 * criteria.limit)));
  const upTo = (value, usual) => Math.max(usual, 2 * (value ?? 0));
  return [
    { key: 'limit', name: 'λ  small cluster', min: 1, max: most, step: 1, usual: criteria.limit, meaning: (value) => `A cluster of at most ${count(value, 'image')} (${percent(value / n)} of the probe) is small.` },
    { key: 'small_cluster_ratio', name: 'α  unbalanced', min: 0, max: upTo(criteria.small_cluster_ratio, 1), step: 0.01, usual: 0.2, meaning: (value) => `More than ${percent(value)} of the filter’s clusters are small.` },
    { key: 'ch_ratio', name: 'β  separated', min: 0, max: upTo(criteria.ch_ratio, 5), step: 0.05, usual: 1, meaning: (value) => `Its Calinski-Harabasz index exceeds ${value} times the layer’s mean.` },
    { key: 'activation_ratio', name: 'θ  active', min: 0, max: upTo(criteria.activation_ratio, 3), step: 0.05, usual: 0.2, meaning: (value) => `Its mean activation is at least ${value} times the layer’s mean.` },
  ];
}

// The thresholds in a line.
function thresholdsLine({ limit, small_cluster_ratio: alpha, ch_ratio: beta, activation_ratio: theta }) {
  return [
    `clusters of up to ${count(limit, 'image')} are small`,
    alpha === null ? null : `more than ${percent(alpha)} of a filter’s clusters`,
    beta === null ? null : `CH index above ${beta} × mean`,
    theta === null ? null : `activation from ${theta} × mean`,
  ].filter((part) => part !== null).join(', ');
}

// Keeps `thresholds` as the sliders say, and calls onChange when one moves. A criterion that is
// switched off has a threshold of null; λ belongs to no criterion alone.
class Sliders {
  constructor(container, criteria, onChange) {
    Object.assign(this, { thresholds: { ...criteria }, onChange });
    this.parts = sliderSpecs(criteria).map((spec) => this.build(spec));
    fill(container, ...this.parts.map(({ box }) => box));
    byId('reset').addEventListener('click', () => this.set(criteria));
    this.refresh();
  }

  set(thresholds) {
    Object.assign(this.thresholds, thresholds);
    this.refresh();
    this.onChange();
  }

  build(spec) {
    const { key, name, min, max, step, usual } = spec;
    const isSize = key === 'limit';
    const enter = ({ target: { value: text } }) => {
      const value = isSize ? Math.min(Math.round(Number(text)), payload.n_samples - 1) : Number(text);
      if (text !== '' && Number.isFinite(value) && value >= min) this.set({ [key]: value });
    };
    const id = `threshold-${key}`;
    const range = element('input', { type: 'range', id, min, max, step, value: usual, oninput: enter });
    const number = element('input', { type: 'number', min, step, 'aria-label': `${name}, as a number`, onchange: enter });
    const toggle = isSize ? null : element('input', {
      type: 'checkbox',
      'aria-label': `ask for criterion ${name}`,
      onchange: () => this.set({ [key]: toggle.checked ? Number(range.value) : null }),
    });
    const meaning = element('div', { class: 'meaning' });
    const label = element('span', {}, toggle, ' ', element('label', { for: id }, name));
    const box = element('div', { class: 'slider' }, element('div', { class: 'name' }, label, number), range, meaning);
    return { spec, range, number, toggle, meaning, box };
  }

  refresh() {
    for (const { spec, range, number, toggle, meaning, box } of this.parts) {
      const value = this.thresholds[spec.key];
      const off = value === null;
      // A value between a slider's steps stays as it is until the slider is moved.
      if (!off && Number(range.value) !== value) range.value = value;
      range.disabled = off;
      number.disabled = off;
      number.value = off ? '' : Number(value.toPrecision(12));
      if (toggle) toggle.checked = !off;
      box.classList.toggle('off', off);
      meaning.textContent = off ? 'Not asked for.' : spec.meaning(Number(number.value));
    }
  }
}
