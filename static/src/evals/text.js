// Words of conditions and figures, and text from models made harmless to look at. Pure.
export const conditionName = (c) => (c.level ? `${c.variant} ${c.level > 0 ? '+' : '\u2212'}${Math.abs(c.level)}` : c.variant);
export const points = (v, digits = 1) => (Number.isFinite(v) ? (100 * v).toFixed(digits).replace('-', '\u2212') : '\u2013');
export const signed = (v) => (Number.isFinite(v) ? `${v >= 0 ? '+' : ''}${points(v)}` : '\u2013');
export const span = (i) => (i && Number.isFinite(i.low) ? `${points(i.low)} to ${points(i.high)}` : '\u2013');

export function pValue(p) {
  if (!Number.isFinite(p)) return '\u2013';
  return p < 0.0001 ? '< 0.0001' : p.toFixed(4);
}

// Characters that no one sees or that turn others around become visible marks.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;
export function plain(text) {
  return text.replace(UNSEEN, (c) => (c < ' ' ? String.fromCharCode(0x2400 + c.charCodeAt(0)) : c === '\u007f' ? '\u2421' : `\u27e8U+${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}\u27e9`));
}

// text in pieces: marks [{begin, end, ...}] in bytes of UTF-8, sorted, that do not overlap.
export function pieces(text, marks) {
  const bytes = new TextEncoder().encode(text);
  const decode = new TextDecoder();
  const out = [];
  let at = 0;
  for (const m of marks.filter((x) => x.end > x.begin).sort((a, b) => a.begin - b.begin)) {
    if (m.begin < at || m.end > bytes.length) continue;
    if (m.begin > at) out.push({ text: decode.decode(bytes.subarray(at, m.begin)) });
    out.push({ text: decode.decode(bytes.subarray(m.begin, m.end)), mark: m });
    at = m.end;
  }
  if (at < bytes.length) out.push({ text: decode.decode(bytes.subarray(at)) });
  return out;
}

// ---- "a op b = c" in a text, computed exactly with fractions of big integers ----
const gcd = (a, b) => { while (b) [a, b] = [b, a % b]; return a < 0n ? -a : a; };
const frac = (n, d) => { const g = gcd(n, d) || 1n; return d < 0n ? [-n / g, -d / g] : [n / g, d / g]; };

function number(s) {
  const m = /^(-?\d+)(?:\.(\d+))?$/.exec(s.replaceAll(',', ''));
  if (!m) return null;
  const digits = m[2] || '';
  return frac(BigInt(m[1] + digits), 10n ** BigInt(digits.length));
}

const OPS = {
  '+': (a, b) => frac(a[0] * b[1] + b[0] * a[1], a[1] * b[1]),
  '-': (a, b) => frac(a[0] * b[1] - b[0] * a[1], a[1] * b[1]),
  '*': (a, b) => frac(a[0] * b[0], a[1] * b[1]),
  '/': (a, b) => (b[0] === 0n ? null : frac(a[0] * b[1], a[1] * b[0])),
};
const SAME = { '\u00d7': '*', x: '*', '\u00f7': '/', '\u2212': '-', '\u2013': '-' };
const NUM = String.raw`\$?(\d(?:[\d,]{0,14}\d)?(?:\.\d{1,8})?)%?`;
const STEP = new RegExp(String.raw`(?<![\d.,)/*+\-\u00d7\u00f7\u2212] ?)${NUM}\s*([-+*/x\u00d7\u00f7\u2212\u2013])\s*${NUM}\s*=\s*${NUM}(?!\s*[-+*/x\u00d7\u00f7]\s*\d)`, 'g');
const MAX = 20000;

// [{text, ok}] of each step found.
export function steps(text) {
  const out = [];
  for (const m of text.slice(0, MAX).matchAll(STEP)) {
    const [a, b, c] = [number(m[1]), number(m[3]), number(m[4])];
    const op = SAME[m[2]] || m[2];
    if (!a || !b || !c) continue;
    const v = OPS[op](a, b);
    out.push({ text: m[0], ok: Boolean(v && v[0] === c[0] && v[1] === c[1]) });
  }
  return out;
}
