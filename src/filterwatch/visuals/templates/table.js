// A table of numbered rows that can be sorted and paged.

const cellsOf = (columns, row) => columns.map(({ cell, kind = '' }) => element('td', { class: kind }, cell(row)));

// columns: { title, hint, value(row), cell(row) -> node or text, kind }
class Table {
  constructor(table, pager, columns, { onChoose, pageSize = isNarrow ? 10 : 25 }) {
    Object.assign(this, { columns, onChoose, pageSize, page: 0, chosen: null, sort: { at: 0, descending: true } });
    this.heads = columns.map(({ title, hint: meaning, kind = '' }, at) => element('th', { scope: 'col', class: kind, title: meaning }, button(() => this.sortBy(at), title)));
    this.body = element('tbody');
    fill(table, element('thead', {}, element('tr', {}, ...this.heads)), this.body);
    const turn = (by, text) => button(() => this.turn(by), text, { 'data-turn': by });
    [this.previous, this.place, this.next] = [turn(-1, 'Previous'), element('span'), turn(1, 'Next')];
    fill(pager, this.previous, this.place, this.next);
  }

  // Sorts rows, by default those it has, and draws a page of them.
  show(rows = this.rows) {
    this.rows = rows;
    const { value } = this.columns[this.sort.at];
    const keys = new Map(this.rows.map((row) => [row, value(row)]));
    const sign = this.sort.descending ? -1 : 1;
    this.ordered = [...this.rows].sort((one, other) => {
      const [a, b] = [keys.get(one), keys.get(other)];
      // What has no number comes last, whichever way.
      return Number.isNaN(a) - Number.isNaN(b) || sign * (a - b) || one - other;
    });
    this.page = Math.min(this.page, Math.max(0, Math.ceil(this.ordered.length / this.pageSize) - 1));
    this.draw();
  }

  draw() {
    this.heads.forEach((head, at) => head.setAttribute('aria-sort', at !== this.sort.at ? 'none' : this.sort.descending ? 'descending' : 'ascending'));
    const total = this.ordered.length;
    const first = this.page * this.pageSize;
    const shown = this.ordered.slice(first, first + this.pageSize);
    const empty = () => element('td', { class: 'hint', colspan: this.columns.length }, 'No filter fits. Clear the search, or loosen the thresholds.');
    fill(this.body, ...(total ? shown.map((row) => this.drawRow(row)) : [element('tr', {}, empty())]));
    this.place.textContent = total ? `${whole.format(first + 1)}–${whole.format(first + shown.length)} of ${whole.format(total)}` : 'none';
    this.previous.disabled = first === 0;
    this.next.disabled = first + shown.length >= total;
  }

  drawRow(row) {
    const chosen = row === this.chosen ? 'chosen' : '';
    return element('tr', { class: `row ${chosen}`, 'data-row': row, onclick: () => this.choose(row) }, ...cellsOf(this.columns, row));
  }

  sortBy(at) {
    const descending = this.sort.at === at ? !this.sort.descending : this.columns[at].kind !== 'name';
    this.sort = { at, descending };
    this.page = 0;
    this.show();
  }

  choose(row) {
    this.chosen = row;
    for (const line of this.body.children) line.classList.toggle('chosen', Number(line.dataset.row) === row);
    this.onChoose(row);
  }

  turn(by) {
    this.page += by;
    this.draw();
  }
}
