// Samples as they come from the server, and the last ones of a stream.
export const BACKLOG = 2;

export function unpack(buffer) {
  const view = new DataView(buffer);
  const kind = view.getUint8(0), stream = view.getUint16(2, true), rows = view.getUint32(4, true);
  const channels = view.getUint16(8, true), scores = view.getUint16(10, true);
  let at = 16;
  const times = new Float64Array(buffer, at, rows);
  at += 8 * rows;
  const column = () => { const found = new Float32Array(buffer, at, rows); at += 4 * rows; return found; };
  const read = (count) => Array.from({ length: count }, column);
  return { kind, stream, rows, times, channels: read(channels), scores: read(scores), quality: column() };
}

// The last rows of one stream: typed arrays twice as long as what is kept, moved now and then.
export class Recent {
  constructor(columns, kept = 60000) {
    this.kept = kept;
    this.times = new Float64Array(2 * kept);
    this.columns = Array.from({ length: columns }, () => new Float32Array(2 * kept));
    this.start = 0;
    this.end = 0;
  }

  clear() { this.start = this.end = 0; }

  add(times, columns) {
    let from = Math.max(0, times.length - this.kept);
    const count = times.length - from;
    if (this.end + count > this.times.length) {
      const keep = Math.min(this.kept - count, this.end - this.start);
      const first = this.end - keep;
      this.times.copyWithin(0, first, this.end);
      for (const column of this.columns) column.copyWithin(0, first, this.end);
      this.start = 0;
      this.end = keep;
    }
    this.times.set(times.subarray(from), this.end);
    columns.forEach((column, i) => this.columns[i].set(column.subarray(from), this.end));
    this.end += count;
    this.start = Math.max(this.start, this.end - this.kept);
  }

  get last() { return this.end > this.start ? this.times[this.end - 1] : NaN; }

  // Rows of the last seconds in at most so many points: least and greatest of each stretch.
  window(seconds, until, most, chosen) {
    let low = this.start, high = this.end;
    const from = until - seconds;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.times[middle] < from) low = middle + 1; else high = middle;
    }
    const first = Math.max(this.start, low - 1), count = this.end - first;
    if (count <= most) {
      // Copies, because rows are moved when there is no room behind them.
      return [this.times.slice(first, this.end).map((t) => t - until),
        ...chosen.map((i) => this.columns[i].slice(first, this.end))];
    }
    const size = Math.ceil((2 * count) / most), stretches = Math.ceil(count / size);
    const times = new Float64Array(2 * stretches);
    for (let k = 0; k < stretches; k++) {
      times[2 * k] = this.times[first + k * size] - until;
      times[2 * k + 1] = this.times[Math.min(first + k * size + (size >> 1), this.end - 1)] - until;
    }
    return [times, ...chosen.map((i) => extremes(this.columns[i], first, this.end, size, stretches))];
  }
}

function extremes(column, first, end, size, stretches) {
  const out = new Float32Array(2 * stretches);
  for (let k = 0; k < stretches; k++) {
    const from = first + k * size, to = Math.min(from + size, end);
    let least = from, greatest = from;
    for (let i = from + 1; i < to; i++) {
      if (column[i] < column[least]) least = i;
      if (column[i] > column[greatest]) greatest = i;
    }
    out[2 * k] = column[Math.min(least, greatest)];
    out[2 * k + 1] = column[Math.max(least, greatest)];
  }
  return out;
}
