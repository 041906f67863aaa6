/** What the App loads: registers the component of the panel of pairs. */

import { app } from "./app";
import { SfamFindings } from "./findings";
import { registerHandover } from "./handover";
import type { Answer, Opened } from "./types";

const { React } = app;


function Viewer(props: { schema: { view: { ask: string } } }) {
  const panelId = app.__fosp__.usePanelId();
  const trigger = app.__foo__.usePanelEvent();
  const [text, setText] = React.useState("...");
  const address = props.schema.view.ask;
  React.useEffect(() => {
    trigger(panelId, {
      operator: address,
      params: { question: "open" },
      callback: (result) => setText(JSON.stringify(result.result as Answer<Opened>)),
    });
  }, []);
  return <div data-testid="sfam-viewer">{text}</div>;
}

app.__fop__.registerComponent({
  name: "SfamPairs",
  label: "SFAM pairs",
  component: Viewer,
  type: app.__fop__.PluginComponentType.Component,
  activator: () => true,
});

const type = app.__fop__.PluginComponentType.Component;
const findings = { name: "SfamFindings", label: "SFAM findings", component: SfamFindings, type };
app.__fop__.registerComponent({ ...findings, activator: () => true });
registerHandover();
