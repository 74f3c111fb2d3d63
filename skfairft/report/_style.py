"""The style sheet of the page: one column, tables that scroll in their own boxes, light on paper.

Figures are drawn for a light ground, so the page keeps one in dark surroundings, too.
"""

STYLE = """
:root {
  color-scheme: light;
  --ink: #1b2330; --quiet: #566171; --line: #d8dde4; --ground: #ffffff; --tile: #f4f6f8;
  --accent: #0a4f8a; --warn: #fff7e6; --warn-line: #c07f10;
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: anywhere;
}
.page { max-width: 66rem; margin: 0 auto; padding: 2.5rem clamp(1rem, 4vw, 2.5rem) 3rem; }
p, li, dd { max-width: 44rem; }
p { margin: 0 0 0.9rem; }
a { color: var(--accent); text-underline-offset: 0.15em; }
a:focus-visible, .scroll:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
h1 { font-size: clamp(1.6rem, 1.3rem + 1.4vw, 2.2rem); line-height: 1.2; margin: 0 0 0.8rem;
  letter-spacing: -0.015em; text-wrap: balance; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 0 0 0.8rem; letter-spacing: -0.01em; }
h3 { font-size: 0.9375rem; line-height: 1.4; font-weight: 600; color: var(--quiet);
  margin: 1.6rem 0 0.7rem; }
section { border-top: 1px solid var(--line); margin-top: 2.4rem; padding-top: 1.6rem; }
.eyebrow, .quiet, .caption, figcaption, footer { color: var(--quiet); font-size: 0.875rem; }
.eyebrow { margin: 0 0 0.35rem; }
.lead { font-size: 1.0625rem; }
nav ul { display: flex; flex-wrap: wrap; gap: 0.25rem 1.1rem; list-style: none; padding: 0;
  margin: 1.4rem 0 0; font-size: 0.9375rem; }
nav a { text-decoration-color: var(--line); }
nav a:hover { text-decoration-color: currentcolor; }

.tiles { display: grid; gap: 0.75rem; margin: 1.5rem 0;
  grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); }
.tiles div { background: var(--tile); border-radius: 0.4rem; padding: 0.8rem 0.9rem 0.7rem; }
.tiles dt { font-size: 0.8125rem; line-height: 1.35; color: var(--quiet); }
.tiles dd { margin: 0; }
.tiles .value { font-size: 1.55rem; line-height: 1.35; font-weight: 600;
  font-variant-numeric: tabular-nums; }
.tiles .note { font-size: 0.8125rem; line-height: 1.35; color: var(--quiet);
  font-variant-numeric: tabular-nums; }

.found { background: var(--warn); border-left: 4px solid var(--warn-line); border-radius: 0.25rem;
  padding: 0.85rem 1.1rem; }
.found p { margin: 0 0 0.3rem; }
.found ul { margin: 0; padding: 0; list-style: none; display: flex; flex-wrap: wrap;
  gap: 0.1rem 1.1rem; }

.facts { display: grid; grid-template-columns: 8rem minmax(0, 1fr); gap: 0.35rem 1.2rem;
  margin: 0 0 1rem; }
.facts dt { color: var(--quiet); }
.facts dd { margin: 0; }

.caption { margin: 1.2rem 0 0.35rem; }
/* Where a box has more to its right, a shadow says so: the cover scrolls along, the shadow not. */
.scroll { overflow-x: auto; max-width: 100%; margin: 0 0 1.4rem; background:
  linear-gradient(to left, var(--ground) 1.2rem, transparent) right / 3rem 100% no-repeat local,
  linear-gradient(to left, rgb(27 35 48 / 0.16), transparent) right top / 0.9rem calc(100% - 2px)
  no-repeat scroll; }
table { border-collapse: collapse; font-size: 0.875rem; line-height: 1.4;
  font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: 0.4rem 0.8rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; }
thead th, thead td { vertical-align: bottom; border-bottom: 2px solid var(--ink); font-weight: 600;
  min-width: 5.5rem; max-width: 9rem; }
th.name, td.name { text-align: left; }
tbody th { font-weight: 500; white-space: nowrap; }
tbody td { white-space: nowrap; }
tbody tr.all th, tbody tr.all td { border-top: 2px solid var(--line); font-weight: 600; }
th.name:first-child, td.name:first-child { position: sticky; left: 0; background: var(--ground);
  padding-left: 0; }
.interval { display: block; font-size: 0.78rem; font-weight: 400; color: var(--quiet); }
tbody th.long { white-space: normal; overflow-wrap: anywhere; min-width: 12rem; max-width: 18rem; }

.pair { display: grid; gap: 0 2.5rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); }
.pair > * { min-width: 0; }
figure { margin: 1.2rem 0 1.4rem; }
figure .scroll { margin: 0; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { margin-top: 0.3rem; max-width: 36rem; }

.caveats { list-style: none; padding: 0; margin: 0 0 1rem; }
.caveats > li { margin: 0 0 0.9rem; }
.caveats strong { display: block; }
.caveats ul { margin: 0.3rem 0 0; padding-left: 1.2rem; font-size: 0.9375rem; }
footer { border-top: 1px solid var(--line); margin-top: 2.4rem; padding-top: 1rem; }

@media (max-width: 40rem) {
  .page { padding-top: 1.5rem; }
  .tiles { grid-template-columns: repeat(2, 1fr); }
  .facts { grid-template-columns: minmax(0, 1fr); gap: 0; }
  .facts dd { margin: 0 0 0.6rem; }
  table { font-size: 0.8125rem; }
  th, td { padding: 0.35rem 0.55rem; }
  thead th, thead td { min-width: 4.6rem; }
  tbody th.long { min-width: 9rem; }
  .scroll tbody th.name:first-child { min-width: 4.8rem; max-width: 9rem;
    white-space: normal; }
}
@media print {
  @page { margin: 16mm 14mm; }
  body { font-size: 10pt; }
  .page { padding: 0; max-width: none; }
  nav { display: none; }
  a { color: inherit; text-decoration: none; }
  .scroll { overflow: visible; background: none; }
  figure img { min-width: 0 !important; max-height: 200mm; width: auto; }
  table { font-size: 8pt; }
  th, td, tbody td { padding: 0.2rem 0.4rem; white-space: normal; }
  thead th, thead td { min-width: 0; }
  th.name:first-child, td.name:first-child { position: static; }
  figure, tr, .tiles, .found, .caveats > li { break-inside: avoid; }
  h2, h3, .caption { break-after: avoid; }
  .tiles div, .found { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
