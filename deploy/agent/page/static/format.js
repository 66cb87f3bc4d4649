// Numbers and times as they are shown.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export function count(number) {
  return typeof number === "number" && Number.isFinite(number) ? whole.format(number).replaceAll(",", "\u202f") : "–";
}

export function short(number) {
  if (typeof number !== "number") return "–";
  if (number < 10000) return count(number);
  const [size, unit] = number < 1e6 ? [1e3, "k"] : number < 1e9 ? [1e6, "M"] : [1e9, "G"];
  const scaled = number / size;
  return scaled.toFixed(scaled < 100 ? 1 : 0) + "\u202f" + unit;
}

export function rate(number) {
  return typeof number === "number" ? number.toFixed(number < 99.95 ? 1 : 0) : "–";
}

export function percent(share) {
  if (typeof share !== "number") return "–";
  const rounded = 100 * share;
  // What is rare is not to look like nothing, nor what is missing like all.
  if (rounded > 0 && rounded < 0.1) return "< 0.1 %";
  if (rounded < 100 && rounded >= 99.95) return "99.9 %";
  return rounded.toFixed(rounded === 0 || rounded === 100 ? 0 : 1) + " %";
}

/** Seconds that a frame takes. */
export function latency(seconds) {
  if (typeof seconds !== "number") return "–";
  if (seconds < 0.9995) return Math.max(seconds > 0 ? 1 : 0, Math.round(1000 * seconds)) + " ms";
  return seconds.toFixed(seconds < 10 ? 1 : 0) + " s";
}

/** Seconds that something has lasted. */
export function lasting(seconds) {
  if (typeof seconds !== "number") return "–";
  const s = Math.floor(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

export function many(number, one, more = one + "s") {
  return `${count(number)} ${number === 1 ? one : more}`;
}
