/** Bundles src/main.tsx into viewer.js, or with --tests every test into .built/. */
import { readdirSync } from "node:fs";
import { build } from "esbuild";

const common = {
  bundle: true,
  target: "es2021",
  charset: "utf8",
  logLevel: "warning",
  loader: { ".css": "text" },
};
const folder = import.meta.dirname ?? new URL(".", import.meta.url).pathname;

if (process.argv.includes("--tests")) {
  const tests = readdirSync(`${folder}/tests`).filter((name) => name.includes(".test."));
  await build({
    ...common,
    entryPoints: tests.map((name) => `${folder}/tests/${name}`),
    outdir: `${folder}/.built`,
    outExtension: { ".js": ".test.mjs" },
    format: "esm",
    platform: "node",
  });
} else {
  const at = process.argv.indexOf("--outfile");
  await build({
    ...common,
    entryPoints: [`${folder}/src/main.tsx`],
    outfile: at < 0 ? `${folder}/viewer.js` : process.argv[at + 1],
    format: "iife",
    banner: { js: "// Built from src/ by `make viewer`; do not edit." },
  });
}
