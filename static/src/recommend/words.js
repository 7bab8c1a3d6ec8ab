// Times, causes and reasons in words. Pure.
const HOUR = 3600;

// Why a rate is what it is: key of the answer, word, and the colour that means it everywhere on the screen (style.css).
export const CAUSES = [['base', 'taste', 'ph0'], ['own', 'own habit', 'ph2'], ['friends', 'friends', 'ph3'], ['items', 'other items', 'ph1']];

// Hours as people say them.
export function gap(h) {
  if (h === null || !Number.isFinite(h)) return 'perhaps never';
  if (h < 1) return `${Math.max(1, Math.round(h * 60))} min`;
  if (h < 48) return `${h < 10 ? h.toFixed(1) : Math.round(h)} h`;
  return `${(h / 24).toFixed(h < 240 ? 1 : 0)} days`;
}

export function when(t) {
  return new Date(t * 1000).toLocaleString('en-GB', { weekday: 'short', day: '2-digit', month: 'short', hour: '2-digit', minute: '2-digit' });
}

// For <input type="datetime-local">, in the reader's zone.
export function local(t) {
  const d = new Date((t - new Date(t * 1000).getTimezoneOffset() * 60) * 1000);
  return Number.isFinite(d.getTime()) ? d.toISOString().slice(0, 16) : '';
}

const share = (v) => `${Math.round(100 * v)} %`;

// One reason of an item, as text.
export function reason(r, at) {
  if (r.kind === 'own') return `${share(r.share)} habit: ${r.events} own event${r.events === 1 ? '' : 's'}, the last ${gap((at - r.last) / HOUR)} before`;
  if (r.kind === 'friends') return `${share(r.share)} friends: ${r.friends.map((f) => `${f.user} ${share(f.share)}`).join(', ')}`;
  if (r.kind === 'items') return `${share(r.share)} other items: ${r.items.map((f) => `${f.item} ${share(f.share)}`).join(', ')}`;
  const best = r.factors[0];
  return `${share(r.share)} taste${best && r.share >= 0.005 ? `: mostly factor ${best.factor}, like ${best.items.join(', ')}` : ''}`;
}
