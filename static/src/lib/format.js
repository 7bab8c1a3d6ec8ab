// Numbers and times for people. Pure.
const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

export function bytes(n) {
  if (n === null || n === undefined || !Number.isFinite(n)) return 'unknown';
  let u = 0;
  while (Math.abs(n) >= 1024 && u < UNITS.length - 1) {
    n /= 1024;
    u += 1;
  }
  return `${u ? n.toFixed(n < 10 ? 2 : 1) : n} ${UNITS[u]}`;
}

export function rate(n) {
  if (!Number.isFinite(n)) return '0';
  return n >= 100 ? n.toFixed(0) : n >= 10 ? n.toFixed(1) : n.toFixed(2);
}

export function ms(n) {
  if (!Number.isFinite(n)) return 'no data yet';
  return n >= 1000 ? `${(n / 1000).toFixed(2)} s` : `${n.toFixed(n < 10 ? 1 : 0)} ms`;
}

// The same for what may take far less than a millisecond.
export function span(n) {
  return Number.isFinite(n) && n < 1 ? `${Math.round(n * 1000)} \u00b5s` : ms(n);
}

// Seconds in the two largest units.
export function duration(s) {
  if (!Number.isFinite(s)) return 'unknown';
  if (s < 60) return `${s < 10 && s % 1 ? s.toFixed(1) : Math.round(s)} s`;
  const t = Math.round(s);
  if (t < 3600) return `${Math.floor(t / 60)} min${t % 60 ? ` ${t % 60} s` : ''}`;
  const m = Math.round(t / 60);
  return m < 1440 ? `${Math.floor(m / 60)} h${m % 60 ? ` ${m % 60} min` : ''}` : `${Math.floor(m / 1440)} d ${Math.floor((m % 1440) / 60)} h`;
}

// Dollars; small amounts with two digits that count.
export function money(n) {
  if (!Number.isFinite(n)) return 'unknown';
  return n === 0 ? '$0' : `$${Math.abs(n) < 1 ? Number(n.toPrecision(2)) : n.toFixed(2)}`;
}

export function compact(n) {
  if (!Number.isFinite(n)) return '';
  const [by, unit] = n >= 1e9 ? [1e9, ' B'] : n >= 1e6 ? [1e6, ' M'] : n >= 1e4 ? [1e3, ' K'] : [1, ''];
  return `${Number((n / by).toPrecision(3)).toLocaleString('en-US')}${unit}`;
}

export function count(n) {
  return Number.isFinite(n) ? n.toLocaleString('en-US') : '0';
}

export function percent(share) {
  return Number.isFinite(share) ? `${(100 * share).toFixed(1)} %` : 'unknown';
}

export function params(n) {
  if (!n) return 'unknown';
  return n >= 1e9 ? `${(n / 1e9).toFixed(2)} B` : n >= 1e6 ? `${(n / 1e6).toFixed(1)} M` : `${(n / 1e3).toFixed(0)} K`;
}

// Rows of plain values to CSV text (RFC 4180 quoting; a leading formula sign is defused).
export function csv(header, rows) {
  const cell = (v) => {
    let s = v === null || v === undefined ? '' : String(v);
    if (/^[=+@\t\r]/.test(s)) s = `'${s}`;
    return /[",\r\n]/.test(s) ? `"${s.replaceAll('"', '""')}"` : s;
  };
  return [header, ...rows].map((r) => r.map(cell).join(',')).join('\r\n') + '\r\n';
}
