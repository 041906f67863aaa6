/** The style sheet of the component; its colors are the App's, light and dark. */

const STYLE = `
.sfam { --line: var(--fo-palette-primary-plainBorder, #8884); --chosen: #ff6d04;
  --text: var(--fo-palette-text-primary, #222); --soft: var(--fo-palette-text-secondary, #666);
  --back: var(--fo-palette-background-level2, #fff); container: sfam / size;
  position: absolute; inset: 0; display: flex; flex-direction: column; gap: 4px; padding: 6px;
  box-sizing: border-box; overflow: auto; color: var(--text); font-size: 13px; line-height: 1.35; }
.sfam *, .sfam *::before { box-sizing: border-box; }
.sfam :focus-visible, .sfam:focus-visible { outline: 2px solid var(--chosen); outline-offset: -2px; }
.sfam button, .sfam select, .sfam input { font: inherit; color: var(--text);
  background: var(--back); border: 1px solid var(--line); border-radius: 4px; padding: 2px 6px; }
.sfam select, .sfam input[type="number"], .sfam input[type="text"] { max-width: 11em; }
.sfam input[type="number"] { width: 5.5em; } .sfam input[type="range"] { width: 80px; padding: 0; }
.sfam button { cursor: pointer; } .sfam button:hover { border-color: var(--text); }
.sfam button[aria-pressed="true"] { border-color: var(--chosen); box-shadow: inset 0 0 0 1px var(--chosen); }
.sfam kbd { font: inherit; color: var(--soft); } .sfam p { margin: 2px 0; }
.sfam-bar { display: flex; flex-wrap: wrap; gap: 4px 8px; align-items: center; flex: none; }
.sfam-bar form { margin: 0; }
.sfam-pick, .sfam-tick { display: inline-flex; gap: 4px; align-items: center; }
.sfam-pick > span, .sfam-note { color: var(--soft); }
.sfam-body { flex: 1 1 auto; display: flex; flex-direction: column; gap: 8px; min-height: 0; }
.sfam-pair { flex: none; display: flex; flex-direction: column; gap: 4px; min-width: 0; }
.sfam-old { opacity: 0.6; }
.sfam-shown { position: relative; height: clamp(200px, 46cqh, 110cqw); }
.sfam-name { display: inline-block; max-width: 100%; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; vertical-align: bottom; }
.sfam-who { flex: 1 1 60px; min-width: 0; display: flex; flex-direction: column; }
.sfam-who:last-child { text-align: end; align-items: flex-end; }
.sfam-center { display: flex; flex-wrap: wrap; gap: 2px 8px; justify-content: center; }
.sfam-outcome { color: #fff; border-radius: 3px; padding: 0 4px; white-space: nowrap; }
.sfam-outcome > span + span { margin-inline-start: 4px; }
.sfam-unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.sfam-strip { position: relative; display: flex; gap: 4px; overflow-x: auto; flex: none; padding: 2px; }
.sfam button.sfam-card { display: flex; flex-direction: column; align-items: center; flex: none;
  padding: 2px; font-size: 11px; border-width: 2px; }
.sfam-card img { height: 64px; min-width: 24px; max-width: 96px; object-fit: contain; }
.sfam button.sfam-true { border-style: dashed; }
.sfam button.sfam-card[aria-current="true"] { border-color: var(--chosen); }
.sfam-line { display: flex; gap: 4px; align-items: center; min-width: 0; white-space: nowrap; }
.sfam-queue { flex: 1 0 240px; display: flex; flex-direction: column; gap: 4px; min-height: 240px; min-width: 0; }
.sfam-list { position: relative; flex: 1 1 0; min-height: 120px; overflow-y: auto; border: 1px solid var(--line); }
.sfam-list > div { position: relative; }
.sfam-row { position: absolute; left: 0; right: 0; display: flex; gap: 4px; padding: 2px; cursor: pointer;
  border-bottom: 1px solid var(--line); border-inline-start: 4px solid transparent; }
.sfam-row img { width: 40px; height: 100%; object-fit: contain; flex: none; }
.sfam-row[aria-current="true"] { border-inline-start-color: var(--chosen); background: var(--line); }
.sfam-row[aria-selected="true"] { box-shadow: inset 0 0 0 2px var(--chosen); }
.sfam-cells { flex: 1 1 0; min-width: 0; font-size: 12px; }
.sfam-given, .sfam-own { color: var(--chosen); font-weight: 600; max-width: 16em; }
.sfam-message { display: flex; gap: 8px; align-items: center; flex: none; padding: 4px 8px;
  border: 1px solid var(--chosen); border-radius: 4px; }
.sfam-message > span { flex: 1 1 auto; overflow-wrap: anywhere; }
.sfam-help { position: absolute; z-index: 5; top: 48px; right: 8px; max-width: calc(100% - 16px);
  padding: 10px; background: var(--back); border: 1px solid var(--line); box-shadow: 0 4px 16px #0006; }
.sfam-help dl { display: grid; grid-template-columns: auto 1fr; gap: 2px 12px; margin: 0 0 8px; }
.sfam-help dd { margin: 0; }
@container sfam (min-width: 760px) {
  .sfam-body { flex-direction: row; }
  .sfam-pair { flex: 1 1 0; overflow: auto; }
  .sfam-shown { flex: 1 0 200px; height: auto; }
  .sfam-queue { flex: 0 0 clamp(240px, 28%, 380px); }
}
`;

/** Add the style sheet to the page, once. */
export function addStyle(): void {
  if (document.getElementById("sfam-style")) return;
  const element = document.createElement("style");
  element.id = "sfam-style";
  element.textContent = STYLE;
  document.head.append(element);
}
