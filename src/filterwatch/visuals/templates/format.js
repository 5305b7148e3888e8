// Text and elements. Text always goes in as text, never as markup.

const whole = new Intl.NumberFormat('en');
const count = (number, one, many = `${one}s`) => `${whole.format(number)} ${number === 1 ? one : many}`;
const percent = (share) => `${(100 * share).toFixed(1)}%`;

function short(number) {
  if (Number.isNaN(number)) return '–';
  const size = Math.abs(number);
  if (size >= 1e7 || (size > 0 && size < 1e-3)) return number.toExponential(1);
  return size >= 100 ? whole.format(Math.round(number)) : number.toPrecision(3);
}

// element('td', { class: 'number' }, 'text', anotherElement); what is null is left out.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else if (value !== null) made.setAttribute(name, value);
  }
  fill(made, ...children);
  return made;
}

function fill(container, ...children) {
  container.replaceChildren(...children.filter((child) => child !== null));
}

// A phone shows less at first, and what matters most of each table.
const isNarrow = innerWidth <= 560;

const byId = (id) => document.getElementById(id);
const cssColor = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const hint = (text) => element('p', { class: 'hint' }, text);
const button = (onclick, text, attributes = {}) => element('button', { type: 'button', onclick, ...attributes }, text);
const linkButton = (onclick, text) => button(onclick, text, { class: 'plain' });
const badge = (text, kind = '') => element('span', { class: `badge ${kind}` }, text);
const tile = (number, text, kind = '') => element('div', { class: `tile ${kind}` }, element('b', {}, number), element('span', {}, text));
