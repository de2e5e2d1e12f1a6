// Conversations sorted into folders by the time at which they began.

import type { Thread } from "../../api/types";

export interface Folder {
  label: string;
  threads: Thread[];
}

// Intl has them, too, but making its format takes a third of the script's time when the page is opened.
const MONTHS = [
  ...["January", "February", "March", "April", "May", "June"],
  ...["July", "August", "September", "October", "November", "December"],
];

/** Neighbours of one folder together, in the order given, which is by time. `now` in milliseconds. */
export function folders(threads: readonly Thread[], now: number): Folder[] {
  const named = labels(now);
  const found: Folder[] = [];
  for (const thread of threads) {
    const label = named(thread.created_at * 1000);
    const last = found.at(-1);
    if (last?.label === label) last.threads.push(thread);
    else found.push({ label, threads: [thread] });
  }
  return found;
}

/** The name of the folder that a time belongs to. Days begin at midnight here. */
function labels(now: number): (time: number) => string {
  const midnight = (daysAgo: number) => {
    const day = new Date(now);
    return new Date(day.getFullYear(), day.getMonth(), day.getDate() - daysAgo).getTime();
  };
  const since: [number, string][] = [
    [midnight(0), "Today"],
    [midnight(1), "Yesterday"],
    [midnight(7), "Last 7 days"],
    [midnight(30), "Last 30 days"],
  ];
  return (time) => since.find(([start]) => time >= start)?.[1] ?? month(new Date(time));
}

function month(date: Date): string {
  return `${MONTHS[date.getMonth()]} ${date.getFullYear()}`;
}
