//! The style sheet of a page: two sets of colours by what the reader prefers, numbers in columns, one column on a phone.

pub(super) const STYLE: &str = r##"
:root {
  --paper: #fbfaf8; --card: #ffffff; --ink: #1d1f21; --dim: #6a6d70; --line: #e4e1dc;
  --right: #2c6e49; --right-soft: #e6f0e9; --wrong: #a63a2b; --wrong-soft: #f8e9e5;
  --unknown: #8a6210; --unknown-soft: #f7efdc; --before: #b9b4aa; --after: #35618e;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
  --mono: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #16181a; --card: #1e2123; --ink: #e6e4df; --dim: #9a9c9c; --line: #33373a;
    --right: #86c79f; --right-soft: #1d3226; --wrong: #ec9384; --wrong-soft: #3c231e;
    --unknown: #e0ba66; --unknown-soft: #38301c; --before: #62666a; --after: #7fb0e0;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 var(--sans); }
main { max-width: 60rem; margin: 0 auto; padding: 3rem 1.5rem 4rem; }
code, pre { font-family: var(--mono); font-size: .86em; overflow-wrap: anywhere; }
pre { margin: 0; white-space: pre-wrap; }
small { font-size: .8125rem; color: var(--dim); font-weight: 400; }
h1 { display: flex; gap: .9rem; align-items: baseline; margin: .15rem 0 .6rem;
  font-size: clamp(1.5rem, 1.1rem + 2vw, 2.125rem); line-height: 1.22; font-weight: 650; letter-spacing: -.015em;
  overflow-wrap: anywhere; text-wrap: balance; }
h2 { margin: 3rem 0 .9rem; font-size: 1.0625rem; font-weight: 650; letter-spacing: -.005em; }
h3 { margin: 1.6rem 0 .4rem; font-size: .8125rem; font-weight: 600; color: var(--dim); }
.count { color: var(--dim); font-weight: 400; font-variant-numeric: tabular-nums; }
.dim { color: var(--dim); }
.stack { margin: 0; color: var(--dim); font-size: .9375rem; }
.note { margin: 0 0 .5rem; font-size: 1.0625rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.note:empty { display: none; }
.verdict.right .note { color: var(--right); }
.verdict.wrong .note { color: var(--wrong); }
.verdict.unknown .note { color: var(--unknown); }
.when { margin: 0; color: var(--dim); font-size: .9375rem; font-variant-numeric: tabular-nums; }
.why { margin: .7rem 0 0; padding: .55rem .8rem; border-left: 3px solid var(--unknown); background: var(--unknown-soft);
  border-radius: 0 6px 6px 0; font-size: .9375rem; overflow-wrap: anywhere; }
.verdict { border-bottom: 1px solid var(--line); padding-bottom: 1.6rem; }
.verdict.right h1 .sign { color: var(--right); }
.verdict.wrong h1 .sign { color: var(--wrong); }
.verdict.unknown h1 .sign { color: var(--unknown); }

.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; }
.matrix { table-layout: auto; }
.matrix th, .matrix td { padding: .6rem .9rem; border-bottom: 1px solid var(--line); vertical-align: baseline; white-space: nowrap; }
.matrix th:first-child, .matrix td:first-child { padding-left: 0; }
.matrix th small { display: block; line-height: 1.3; }
.matrix td .sign { display: inline-block; width: 1.4em; font-weight: 700; }
.matrix td small { margin-left: .5em; }
.matrix td.right .sign { color: var(--right); }
.matrix td.wrong { color: var(--wrong); font-weight: 600; }
.matrix td.unknown { color: var(--unknown); font-weight: 600; }
.plain th, .plain td { padding: .4rem .9rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: baseline; }
.plain th { font-size: .8125rem; color: var(--dim); }
.plain code { overflow-wrap: normal; }
.number { white-space: nowrap; }

.chip { display: inline-block; padding: 0 .5em; border-radius: 4px; font-size: .8125rem; line-height: 1.5; font-weight: 600;
  white-space: nowrap; background: var(--line); color: var(--ink); }
.right > .chip, .chip.right { background: var(--right-soft); color: var(--right); }
.wrong > summary > .chip, .chip.wrong { background: var(--wrong-soft); color: var(--wrong); }
.unknown > summary > .chip, .chip.unknown { background: var(--unknown-soft); color: var(--unknown); }
.chip.quiet { background: none; color: var(--dim); padding-left: 0; font-weight: 400; }

details.finding { border: 1px solid var(--line); border-radius: 8px; background: var(--card); margin: 0 0 .6rem; }
details.finding > summary { display: flex; gap: .8rem; align-items: baseline; padding: .65rem .9rem; cursor: pointer;
  list-style: none; overflow-wrap: anywhere; }
details.finding > summary > .chip { flex: none; min-width: 6.2rem; text-align: center; }
details.finding > summary::-webkit-details-marker { display: none; }
details.finding > summary::after { content: "+"; margin-left: auto; color: var(--dim); font-weight: 400; }
details.finding[open] > summary::after { content: "\2212"; }
details.finding > div { padding: 0 .9rem .9rem; }
details.more > summary { cursor: pointer; color: var(--dim); padding: .2rem 0; }
summary:focus-visible { outline: 2px solid var(--after); outline-offset: 2px; border-radius: 6px; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: .6rem; margin: .1rem 0 .8rem; }
.sides > div { padding: .5rem .7rem; border-radius: 6px; background: var(--paper); border-left: 3px solid var(--line); }
.sides .expected { border-left-color: var(--right); }
.sides .observed { border-left-color: var(--wrong); }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; margin: 0; font-size: .9375rem; }
.facts dt { color: var(--dim); }
.facts dd { margin: 0; overflow-wrap: anywhere; }

.legend { display: flex; flex-wrap: wrap; gap: .4rem; align-items: center; margin: 0; font-size: .8125rem; color: var(--dim); }
.key { width: 1.6em; height: .65em; margin-left: 1rem; border-radius: 2px; }
.key:first-child { margin-left: 0; }
.key.before, rect.before { fill: var(--before); background: var(--before); }
.key.after, rect.after { fill: var(--after); background: var(--after); }
rect.track { fill: var(--line); opacity: .45; }
.key.spread { height: 2px; background: var(--ink); border-radius: 0; }
.measure { display: grid; grid-template-columns: minmax(9rem, 15rem) 5.5rem 1fr 8.5rem 8.5rem; gap: .2rem 1rem; align-items: center;
  padding: .45rem 0; border-bottom: 1px solid var(--line); }
.bars { display: block; width: 100%; height: 32px; }
.bars .spread { fill: none; stroke: var(--ink); stroke-width: 1.25; vector-effect: non-scaling-stroke; opacity: .75; }
.value { text-align: right; font-variant-numeric: tabular-nums; line-height: 1.3; }
.value b { display: block; font-weight: 600; }
.value small { display: block; white-space: nowrap; }
.value.before b { color: var(--dim); }
.steps { margin: 0; padding-left: 1.6rem; }
.steps li { padding: .15rem 0; overflow-wrap: anywhere; }
.steps li::marker { color: var(--dim); font-variant-numeric: tabular-nums; }
footer { margin-top: 4rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--dim); font-size: .8125rem; }

@media (max-width: 44rem) {
  main { padding: 1.6rem 1rem 3rem; }
  h2 { margin-top: 2.2rem; }
  .sides, .facts { grid-template-columns: 1fr; }
  .facts dd { margin-bottom: .4rem; }
  .facts { gap: 0; }
  .matrix th, .matrix td { padding: .5rem .7rem .5rem 0; }
  .matrix th:first-child { position: sticky; left: 0; background: var(--paper); white-space: normal; }
  .matrix tbody th small { display: none; }
  .matrix { font-size: .9375rem; }
  .matrix td, .matrix thead th { white-space: normal; min-width: 4.75rem; }
  .matrix td .sign { width: 1.2em; }
  .matrix td small { display: block; margin-left: 1.4em; }
  details.finding > summary { flex-wrap: wrap; gap: .3rem .8rem; }
  details.finding > summary > .chip { min-width: 0; }
  details.finding > summary > span:last-of-type { flex-basis: 100%; order: 3; }
  .measure { grid-template-columns: 1fr 1fr; }
  .measure .chip { justify-self: end; }
  .measure .bars { grid-column: 1 / -1; }
  .value.before { text-align: left; }
}
@media print {
  body { background: #fff; }
  details.finding { break-inside: avoid; }
}
"##;
