// Built from src/ by `make viewer`; do not edit.
"use strict";
(() => {
  // src/app.ts
  var app = globalThis;

  // src/main.tsx
  var { React } = app;
  function Viewer(props) {
    const panelId = app.__fosp__.usePanelId();
    const trigger = app.__foo__.usePanelEvent();
    const [text, setText] = React.useState("...");
    const address = props.schema.view.ask;
    React.useEffect(() => {
      trigger(panelId, {
        operator: address,
        params: { question: "open" },
        callback: (result) => setText(JSON.stringify(result.result))
      });
    }, []);
    return /* @__PURE__ */ React.createElement("div", { "data-testid": "sfam-viewer" }, text);
  }
  app.__fop__.registerComponent({
    name: "SfamPairs",
    label: "SFAM pairs",
    component: Viewer,
    type: app.__fop__.PluginComponentType.Component,
    activator: () => true
  });
})();
