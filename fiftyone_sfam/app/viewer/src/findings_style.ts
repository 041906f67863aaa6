/** The style of the list of findings; colors are the App's, in both themes. */

export const STYLE = `
.sfam-f { --line: rgba(var(--fo-palette-common-onBackgroundChannel) / 0.3);
  --main: var(--fo-palette-primary-main); --soft: var(--fo-palette-text-secondary);
  font-size: 0.85rem; line-height: 1.45; color: var(--fo-palette-text-primary);
  display: grid; gap: 10px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 500px), 1fr)); }
.sfam-f > nav, .sfam-f > p { grid-column: 1 / -1; }
.sfam-f p { margin: 0; overflow-wrap: anywhere; max-width: 100ch; }
.sfam-f-row, .sfam-f header { display: flex; flex-wrap: wrap; gap: 4px 12px;
  align-items: baseline; }
.sfam-f article { display: grid; gap: 6px; align-content: start; padding: 10px 12px; border-radius: 4px;
  border: 1px solid var(--line); background: var(--fo-palette-background-level2); }
.sfam-f :focus-visible { outline: 2px solid var(--main); outline-offset: 1px; }
.sfam-f header span, .sfam-f figure { color: var(--soft); }
.sfam-f .sfam-f-accepted { color: #0a9a70; } .sfam-f .sfam-f-rejected { color: #d9640f; }
.sfam-f-groups { display: flex; flex-wrap: wrap; gap: 8px 20px; }
.sfam-f figure { margin: 0; min-width: 0; font-size: 0.76rem; }
.sfam-f figcaption { max-width: 260px; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; }
.sfam-f figure > div { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; }
.sfam-f button, .sfam-f select { font: inherit; color: inherit; cursor: pointer;
  background: transparent; border-radius: 4px; padding: 1px 8px; border: 1px solid var(--line); }
.sfam-f option { color: #222; background: #fff; }
.sfam-f button:hover { border-color: var(--main); }
.sfam-f button[aria-disabled="true"] { opacity: 0.5; cursor: default; }
.sfam-f button[aria-pressed="true"] { border-color: currentColor; font-weight: 600; }
.sfam-f figure button { display: grid; justify-items: center; gap: 2px; padding: 3px;
  border-color: transparent; }
.sfam-f-doubted img { outline: 2px solid var(--main); }
.sfam-f img { height: 100px; min-width: 24px; max-width: 130px; object-fit: contain; }
.sfam-f button span { max-width: 92px; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; }
.sfam-f button .sfam-f-missing { width: 92px; height: 100px; white-space: normal; }
.sfam-f [role="alert"] { color: var(--fo-palette-error-main, #d32f2f); }
`;
