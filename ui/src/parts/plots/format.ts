// Numbers as they are read.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** 1.2 GiB. */
export function bytes(count: number): string {
  let unit = 0;
  while (count >= 1024 && unit < UNITS.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${count.toFixed(unit > 0 && count < 10 ? 1 : 0)} ${UNITS[unit]}`;
}

/** 12,345; below ten with one decimal place, if it has any. */
export function amount(number: number): string {
  return number.toLocaleString("en", { maximumFractionDigits: number < 10 ? 1 : 0 });
}

/** 42 %. */
export function percent(part: number): string {
  return `${(100 * part).toFixed(0)} %`;
}

/** 7 s; 3 min 5 s; 2 h 5 min; 3 d 4 h: the two greatest parts. */
export function duration(seconds: number): string {
  const whole = Math.floor(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return two(whole, 60, "min", 1, "s");
  if (whole < 86_400) return two(whole, 3600, "h", 60, "min");
  return two(whole, 86_400, "d", 3600, "h");
}

function two(seconds: number, great: number, greatName: string, small: number, smallName: string): string {
  const rest = Math.floor((seconds % great) / small);
  return `${Math.floor(seconds / great)} ${greatName}${rest > 0 ? ` ${rest} ${smallName}` : ""}`;
}
