// Sizes for people.

const UNITS = ["bytes", "kB", "MB", "GB", "TB"];

/** `98.4 MB`, as a disk counts. */
export function bytes(size: number): string {
  return inUnits(size, 1000, UNITS);
}

/** `2.2 GiB`, as memory counts. */
export function memory(size: number): string {
  return inUnits(size, 1024, ["bytes", "KiB", "MiB", "GiB", "TiB"]);
}

function inUnits(size: number, step: number, units: string[]): string {
  let unit = 0;
  for (; size >= step && unit < units.length - 1; unit += 1) size /= step;
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${units[unit]}`;
}

/** `135M`, `7.6B`: how many parameters a model has. */
export function count(parameters: number): string {
  if (parameters >= 1e9) return `${(parameters / 1e9).toFixed(1).replace(/\.0$/, "")}B`;
  return parameters >= 1e6 ? `${Math.round(parameters / 1e6)}M` : `${parameters}`;
}
