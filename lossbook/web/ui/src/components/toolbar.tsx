// Chart settings: axis, log scales, smoothing, outliers, bands, marks, size. All of them are in the address.

import { useEffect, useRef, useState } from "preact/hooks";

import { axisTitle } from "../format";
import { route, setSettings, setting } from "../router";
import { axes } from "../runs";
import { chartSettings, SMOOTHINGS, setChart } from "../settings";
import { bindShortcuts } from "../shortcuts";
import { hasGroups } from "./chart_panels";
import { CopyButton } from "./copy_button";
import { UrlTextField } from "./url_text_field";
import "./toolbar.css";

const KINDS: readonly [string, string][] = [
  ["", "no smoothing"],
  ["ema", "exponential"],
  ["mean", "mean"],
  ["median", "median"],
  ["gaussian", "Gaussian"],
];
const STRONGEST_EMA = 3; // decimals: 0.999
const WIDEST = 1000; // rows
const sizeText = setting("size");

/** The slider's 0 to 100 as the strength of a kind of smoothing, and back. */
function strengthAt(kind: string, at: number): string {
  if (kind === "ema") return String(Number((1 - 10 ** ((-STRONGEST_EMA * at) / 100)).toFixed(4)));
  return String(Math.max(2, Math.round(2 * (WIDEST / 2) ** (at / 100))));
}

function placeOf(kind: string, strength: number): number {
  if (kind === "ema") return (-100 / STRONGEST_EMA) * Math.log10(1 - Math.min(strength, 0.9999));
  return (100 * Math.log(Math.max(strength, 2) / 2)) / Math.log(WIDEST / 2);
}

/** The next stronger or weaker smoothing of those that `[` and `]` go through. */
export function smoothMore(by: 1 | -1): void {
  const now = chartSettings.peek().smoothing;
  const exact = SMOOTHINGS.indexOf(now);
  const [kind, strength] = (now ?? "").split(":");
  const nearest =
    exact >= 0
      ? exact
      : kind === "ema"
        ? SMOOTHINGS.findLastIndex((one) => one === null || Number(one.slice(4)) <= Number(strength))
        : 0;
  setChart({ smoothing: SMOOTHINGS[Math.max(0, Math.min(nearest + by, SMOOTHINGS.length - 1))] ?? null });
}

function turnAxis(by: 1 | -1): void {
  const all = axes.peek();
  setChart({ x: all[(all.indexOf(chartSettings.peek().x) + by + all.length) % all.length] ?? "step" });
}

/** `single`: of one run alone, which no band can be drawn of. */
export function Toolbar(props: { single?: boolean }) {
  const settings = chartSettings.value;
  const known = axes.value.includes(settings.x) ? axes.value : [...axes.value, settings.x];
  useEffect(
    () =>
      bindShortcuts([
        { key: "x", description: "next x axis", action: () => turnAxis(1) },
        { key: "X", description: "x axis before", action: () => turnAxis(-1) },
        { key: "l", description: "logarithmic y axis", action: () => setChart({ logY: !chartSettings.peek().logY }) },
        { key: "L", description: "logarithmic x axis", action: () => setChart({ logX: !chartSettings.peek().logX }) },
        { key: "]", description: "smooth more", action: () => smoothMore(1) },
        { key: "[", description: "smooth less", action: () => smoothMore(-1) },
        { key: "0", description: "the whole x axis again", action: () => setChart({ range: null }) },
      ]),
    [],
  );
  return (
    <div class="toolbar" role="toolbar" aria-label="How charts are drawn">
      <UrlTextField setting="find" label="Find charts" placeholder="Find charts, /regex/" class="find" />
      <label title="What curves are drawn against (x)">
        <span class="soft">x</span>
        <select aria-label="X axis" value={settings.x} onChange={(event) => setChart({ x: event.currentTarget.value })}>
          {known.map((axis) => (
            <option key={axis} value={axis}>
              {axisTitle(axis)}
            </option>
          ))}
        </select>
      </label>
      <span class="joined" role="group" aria-label="Logarithmic axes">
        <button
          type="button"
          aria-pressed={settings.logX}
          title="Logarithmic x axis (Shift+L)"
          onClick={() => setChart({ logX: !settings.logX })}
        >
          log x
        </button>
        <button
          type="button"
          aria-pressed={settings.logY}
          title="Logarithmic y axis (l)"
          onClick={() => setChart({ logY: !settings.logY })}
        >
          log y
        </button>
      </span>
      <Smoothing />
      <button
        type="button"
        aria-pressed={settings.outliers === "robust"}
        title="Leave far outliers out of the y axis; each chart says how many"
        onClick={() => setChart({ outliers: settings.outliers === "robust" ? "all" : "robust" })}
      >
        Cut outliers
      </button>
      {!props.single && (
        <button
          type="button"
          aria-pressed={settings.bands}
          disabled={!hasGroups() && !settings.bands}
          title={
            hasGroups()
              ? "One line with a band for each group"
              : "Runs that are in groups can be drawn as bands: choose “group by” in the list"
          }
          onClick={() => setChart({ bands: !settings.bands })}
        >
          Bands
        </button>
      )}
      <button
        type="button"
        aria-pressed={settings.marks}
        title="Attempts, checkpoints, stages and alerts as marks"
        onClick={() => setChart({ marks: !settings.marks })}
      >
        Marks
      </button>
      {settings.range !== null && (
        <button
          type="button"
          class="primary"
          title="The whole x axis again (0)"
          onClick={() => setChart({ range: null })}
        >
          Reset zoom
        </button>
      )}
      <span class="space" />
      <label title="Charts in a row">
        <span class="unseen">Charts in a row</span>
        <select
          aria-label="Charts in a row"
          value={sizeText.value ?? ""}
          onChange={(event) => setSettings({ size: event.currentTarget.value || null })}
        >
          <option value="">fit</option>
          {["1", "2", "3", "4"].map((count) => (
            <option key={count} value={count}>
              {count}×
            </option>
          ))}
        </select>
      </label>
      <CopyLink />
    </div>
  );
}

function CopyLink() {
  void route.value; // the address follows it
  return (
    <CopyButton text={location.href} label="Copy the link to this view" class="">
      Copy link
    </CopyButton>
  );
}

function Smoothing() {
  const now = chartSettings.value.smoothing;
  const [kind = "", strength = ""] = (now ?? "").split(":");
  const [drawn, setDrawn] = useState<number | null>(null); // where the slider is while it moves
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  const at = drawn ?? placeOf(kind, Number(strength));
  const shown = drawn === null ? strength : strengthAt(kind, drawn);
  return (
    <span class="smoothing" role="group" aria-label="Smoothing">
      <select
        aria-label="Kind of smoothing"
        title="Smoothing over every row ([ and ])"
        value={kind}
        onChange={(event) => {
          const other = event.currentTarget.value;
          setChart({ smoothing: other === "" ? null : other === "ema" ? "ema:0.9" : `${other}:50` });
        }}
      >
        {KINDS.map(([name, title]) => (
          <option key={name} value={name}>
            {title}
          </option>
        ))}
      </select>
      {kind !== "" && (
        <>
          <input
            type="range"
            min="1"
            max="100"
            step="1"
            value={at}
            aria-label="Strength of smoothing"
            aria-valuetext={shown}
            onInput={(event) => {
              const to = Number(event.currentTarget.value);
              setDrawn(to);
              clearTimeout(timer.current);
              timer.current = setTimeout(() => {
                setChart({ smoothing: `${kind}:${strengthAt(kind, to)}` });
                setDrawn(null);
              }, 120);
            }}
          />
          <output>{shown}</output>
        </>
      )}
    </span>
  );
}
