// The thresholds' sliders.

function sliderSpecs(criteria) {
  const n = payload.n_samples;
  const most = Math.max(1, Math.min(n - 1, Math.max(Math.ceil(n / 10), 2 * criteria.limit)));
  const upTo = (value, usual) => Math.max(usual, 2 * (value ?? 0));
  return [
    { key: 'limit', name: 'λ  small cluster', min: 1, max: most, step: 1, usual: criteria.limit, meaning: (value) => `A cluster of at most ${count(value, 'image', 'images')} (${percent(value / n)} of the probe) is small.` },
    { key: 'smallClusterRatio', name: 'α  unbalanced', min: 0, max: upTo(criteria.small_cluster_ratio, 1), step: 0.01, usual: 0.2, meaning: (value) => `More than ${percent(value)} of the filter’s clusters are small.`, criterion: 0 },
    { key: 'chRatio', name: 'β  separated', min: 0, max: upTo(criteria.ch_ratio, 5), step: 0.05, usual: 1, meaning: (value) => `Its Calinski-Harabasz index exceeds ${value} times the layer’s mean.`, criterion: 1 },
    { key: 'activationRatio', name: 'θ  active', min: 0, max: upTo(criteria.activation_ratio, 3), step: 0.05, usual: 0.2, meaning: (value) => `Its mean activation is at least ${value} times the layer’s mean.`, criterion: 2 },
  ];
}

// Keeps `thresholds` as the sliders say, and calls onChange when one moves.
class Sliders {
  constructor(container, criteria, onChange) {
    this.start = thresholdsOf(criteria);
    this.thresholds = { ...this.start };
    this.onChange = onChange;
    this.parts = sliderSpecs(criteria).map((spec) => this.build(container, spec));
    byId('reset').addEventListener('click', () => {
      Object.assign(this.thresholds, this.start);
      this.refresh();
      onChange();
    });
    this.refresh();
  }

  build(container, spec) {
    const id = `threshold-${spec.key}`;
    const set = (text) => {
      const value = spec.key === 'limit' ? Math.round(Number(text)) : Number(text);
      if (text === '' || !Number.isFinite(value) || value < spec.min) return;
      this.thresholds[spec.key] = spec.key === 'limit' ? Math.min(value, payload.n_samples - 1) : value;
      this.refresh();
      this.onChange();
    };
    const range = element('input', { type: 'range', id, min: spec.min, max: spec.max, step: spec.step, value: spec.usual, oninput: (event) => set(event.target.value) });
    const number = element('input', { type: 'number', min: spec.min, step: spec.step, 'aria-label': `${spec.name}, as a number`, onchange: (event) => set(event.target.value) });
    const toggle = spec.criterion === undefined ? null : element('input', {
      type: 'checkbox',
      'aria-label': `ask for criterion ${spec.name}`,
      onchange: (event) => {
        this.thresholds[spec.key] = event.target.checked ? Number(range.value) : null;
        this.refresh();
        this.onChange();
      },
    });
    const meaning = element('div', { class: 'meaning' });
    const alone = element('div', { class: 'alone' });
    const box = element(
      'div',
      { class: 'slider' },
      element('div', { class: 'name' }, element('span', {}, toggle, toggle ? ' ' : '', element('label', { for: id }, spec.name)), number),
      range,
      meaning,
      alone,
    );
    container.append(box);
    return { spec, range, number, toggle, meaning, alone, box };
  }

  refresh() {
    for (const { spec, range, number, toggle, meaning, box } of this.parts) {
      const value = this.thresholds[spec.key];
      const off = value === null;
      // A value between a slider's steps stays as it is until the slider is moved.
      if (!off && Number(range.value) !== value) range.value = value;
      range.disabled = off;
      number.disabled = off;
      number.value = off ? '' : String(Number(value.toPrecision(12)));
      if (toggle) toggle.checked = !off;
      box.classList.toggle('off', off);
      meaning.textContent = off ? 'Not asked for.' : spec.meaning(Number(value.toPrecision(12)));
    }
  }

  // runs' verdicts: how many filters meet each criterion taken alone.
  showAlone(verdicts) {
    for (const { spec, alone } of this.parts) {
      if (spec.criterion === undefined) continue;
      alone.textContent = `met by ${verdicts.map((verdict) => whole.format(verdict.alone[spec.criterion])).join(' and ')} filters`;
    }
  }
}
