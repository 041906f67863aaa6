/** The style of the list of findings; colors are the App's, in both themes. */

export const STYLE = `
.sfam-f { font-size: 0.85rem; line-height: 1.45; color: var(--fo-palette-text-primary);
  display: grid; gap: 10px; grid-template-columns: minmax(0, 1fr); }
.sfam-f p { margin: 0; overflow-wrap: anywhere; max-width: 100ch; }
.sfam-f nav, .sfam-f header, .sfam-f-buttons { display: flex; flex-wrap: wrap; gap: 4px 12px;
  align-items: baseline; }
.sfam-f nav { position: sticky; top: 0; }
.sfam-f article { display: grid; gap: 6px; padding: 10px 12px; border-radius: 4px;
  border: 1px solid rgba(var(--fo-palette-common-onBackgroundChannel) / 0.2);
  background: var(--fo-palette-background-level2); }
.sfam-f :focus-visible { outline: 2px solid var(--fo-palette-primary-main); outline-offset: 1px; }
.sfam-f header span { color: var(--fo-palette-text-secondary); }
.sfam-f header .sfam-f-accepted { color: #009e73; font-weight: 600; }
.sfam-f header .sfam-f-rejected { color: #d55e00; font-weight: 600; }
.sfam-f-groups { display: flex; flex-wrap: wrap; gap: 8px 20px; }
.sfam-f-group { margin: 0; min-width: 0; }
.sfam-f-group figcaption { color: var(--fo-palette-text-secondary); font-size: 0.78rem;
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap; max-width: 260px; }
.sfam-f-group > div { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; }
.sfam-f button, .sfam-f select { font: inherit; color: inherit; cursor: pointer;
  background: transparent; border-radius: 4px; padding: 1px 8px;
  border: 1px solid rgba(var(--fo-palette-common-onBackgroundChannel) / 0.35); }
.sfam-f option { color: #222; background: #fff; }
.sfam-f button:hover { border-color: var(--fo-palette-primary-main); }
.sfam-f button:disabled, .sfam-f button[aria-disabled="true"] { opacity: 0.5; cursor: default; }
.sfam-f button[aria-pressed="true"] { border-color: currentColor; font-weight: 600; }
.sfam-f .sfam-f-picture { display: grid; justify-items: center; align-content: start; gap: 2px;
  padding: 3px; border-color: transparent; font-size: 0.72rem; }
.sfam-f-doubted .sfam-f-picture img { outline: 2px solid var(--fo-palette-primary-main); }
.sfam-f-picture img { height: 100px; min-width: 24px; max-width: 130px; object-fit: contain; }
.sfam-f-picture span { max-width: 92px; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; color: var(--fo-palette-text-secondary); }
.sfam-f-picture .sfam-f-missing { width: 92px; height: 100px; white-space: normal; }
.sfam-f-more { color: var(--fo-palette-text-secondary); }
.sfam-f [role="alert"] { color: var(--fo-palette-error-main, #d32f2f); }
`;
