// Icons as lines on a grid of 24 by 24, 2 wide, with round ends.

export const ICONS = {
  new: "M12 5v14M5 12h14",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM20 20l-4-4",
  list: "M4 5h16v14H4zM9.5 5v14",
  models: "M12 3l8 4.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9",
  assistants: "M12 4a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM5 20c.5-3.5 3-5 7-5s6.5 1.5 7 5",
  server: "M3 12h4l3-8 4 16 3-8h4",
  settings: "M4 7h8M19 7h1M4 17h1M12 17h8M15.5 4.5a2.5 2.5 0 1 0 0 5 2.5 2.5 0 0 0 0-5zM8.5 14.5a2.5 2.5 0 1 0 0 5 2.5 2.5 0 0 0 0-5z",
  rename: "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
  export: "M12 4v11M8 11l4 4 4-4M5 20h14",
  import: "M12 15V4M8 8l4-4 4 4M5 20h14",
  delete: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10.5 11v5M13.5 11v5",
  keyboard: "M3 7h18v10H3zM7 11h.01M11 11h.01M15 11h.01M8 14h8",
  key: "M8 11a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM11 12l8-8M16 7l3 3",
  check: "M5 12l5 5 9-10",
  close: "M6 6l12 12M18 6L6 18",
  attach: "M20 11.5L12 19.5a5 5 0 0 1-7-7l8-8a3.3 3.3 0 0 1 4.7 4.7l-8 8a1.6 1.6 0 0 1-2.3-2.3l7.2-7.2",
  branch: "M6 4v16M6 12h7a4 4 0 0 0 4-4V5M14 8l3-3 3 3",
  continue: "M7 5l11 7-11 7z",
  copy: "M9 9h11v11H9zM15 9V4H4v11h5",
  file: "M6 3h8l5 5v13H6zM14 3v5h5",
  next: "M9 5l7 7-7 7",
  previous: "M15 5l-7 7 7 7",
  again: "M20 11a8 8 0 1 0-2 6M20 4v7h-7",
} as const;

export type IconName = keyof typeof ICONS;
