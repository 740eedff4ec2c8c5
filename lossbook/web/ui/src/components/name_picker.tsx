// Chooses one of many names: a button with the current one, and a search over all.

import { useState } from "preact/hooks";

import { Menu } from "./menu";
import { metricTest } from "./metric_sections";

const MOST_LISTED = 60;

export function NamePicker(props: {
  label: string;
  current: string;
  options: readonly string[];
  titleOf?: (name: string) => string;
  onChoose: (name: string) => void;
  first?: readonly { name: string; title: string }[]; // always on top: "nothing", ...
}) {
  const { titleOf = (name) => name } = props;
  return (
    <Menu
      label={`${props.label}: ${titleOf(props.current)}`}
      class="name-picker"
      title={`${props.label}: ${titleOf(props.current)}`}
      button={
        <>
          <span class="cut">
            <bdi>{titleOf(props.current)}</bdi>
          </span>
          <span aria-hidden="true" class="soft">
            ▾
          </span>
        </>
      }
    >
      {(close) => <Chooser {...props} titleOf={titleOf} close={close} />}
    </Menu>
  );
}

function Chooser(props: {
  label: string;
  options: readonly string[];
  titleOf: (name: string) => string;
  onChoose: (name: string) => void;
  first?: readonly { name: string; title: string }[];
  close: () => void;
}) {
  const [find, setFind] = useState("");
  const test = metricTest(find) ?? (() => true);
  const found = props.options.filter((name) => test(props.titleOf(name)) || test(name));
  const choose = (name: string): void => {
    props.close();
    props.onChoose(name);
  };
  return (
    <>
      <input
        type="search"
        autofocus
        aria-label={`Find: ${props.label}`}
        placeholder="Find"
        value={find}
        spellcheck={false}
        onInput={(event) => setFind(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Enter" && found[0] !== undefined) {
            event.preventDefault();
            choose(found[0]);
          }
        }}
      />
      {find === "" &&
        props.first?.map(({ name, title }) => (
          <button type="button" key={name} onClick={() => choose(name)}>
            {title}
          </button>
        ))}
      {found.slice(0, MOST_LISTED).map((name) => (
        <button type="button" key={name} onClick={() => choose(name)} title={name}>
          <span class="cut">
            <bdi>{props.titleOf(name)}</bdi>
          </span>
        </button>
      ))}
      <span class="title" role="status">
        {found.length === 0
          ? "Nothing is called like this."
          : found.length > MOST_LISTED
            ? `${(found.length - MOST_LISTED).toLocaleString("en-US")} more: search for them`
            : ""}
      </span>
    </>
  );
}
