// From points in time to the line that is drawn.

export interface Point {
  /** Milliseconds. */
  at: number;
  /** null: nobody knows. */
  value: number | null;
}

export interface Frame {
  /** The time at the right edge, and how much of it the width shows; milliseconds. */
  end: number;
  span: number;
  /** The value at the upper edge. */
  top: number;
  width: number;
  height: number;
}

/** Points that are further apart than that were not looked at in between. */
const MOST_APART_MS = 5000;

/** The runs of points that belong together, left to right, as places in the frame. Of a level stretch only its ends. */
export function lines(points: Point[], frame: Frame): [number, number][][] {
  const found: [number, number][][] = [];
  let last: number | null = null;
  for (const { at, value } of points) {
    if (value === null || at < frame.end - frame.span) {
      last = null;
      continue;
    }
    if (last === null || at - last > MOST_APART_MS) found.push([]);
    last = at;
    const run = found.at(-1)!;
    const x = Math.round((frame.width * (at - frame.end + frame.span)) / frame.span);
    const y = Math.round(frame.height * (1 - Math.min(1, value / frame.top)));
    if (run.at(-1)?.[1] === y && run.at(-2)?.[1] === y) run.pop();
    run.push([x, y]);
  }
  return found;
}

/** One run, as an SVG path's `d`. */
export function linePath(run: [number, number][]): string {
  return `M${run.map(([x, y]) => `${x} ${y}`).join("L")}`;
}

/** What lies between a run's line and the lower edge. */
export function areaPath(run: [number, number][], height: number): string {
  return `M${run[0]![0]} ${height}L${linePath(run).slice(1)}V${height}Z`;
}

/** The point that is nearest to a time, if there is one near it. */
export function nearest(points: Point[], time: number): Point | null {
  let found: Point | null = null;
  for (const point of points) {
    if (Math.abs(point.at - time) < (found === null ? MOST_APART_MS : Math.abs(found.at - time))) found = point;
  }
  return found;
}

/** The least of 1, 2, 5, 10, 20 ... that is not below `value`, so that a scale stays as it is for a while. */
export function roundTop(value: number): number {
  if (value <= 1) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * power).find((top) => top >= value)!;
}

/** The same for bytes: a power of two. */
export function roundBytes(value: number): number {
  return value <= 1 ? 1 : 2 ** Math.ceil(Math.log2(value));
}

/** One value for each `step` milliseconds back from `end`, newest first: the last one known in it. */
export function rows(points: Point[], end: number, span: number, step: number): { ago: number; value: number | null }[] {
  const found = [];
  for (let ago = 0; ago < span; ago += step) {
    const inside = points.filter(({ at }) => at <= end - ago && at > end - ago - step);
    if (inside.length > 0) found.push({ ago, value: inside.at(-1)!.value });
  }
  return found;
}
