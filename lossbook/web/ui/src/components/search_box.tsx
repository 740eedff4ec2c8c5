// A search field whose text is in the address; `/` focuses it, Escape clears it.

import { useSlashField, useUrlText } from "./url_text_field";

export function SearchBox(props: {
  setting: string;
  label: string;
  slash?: boolean;
  onEnter?: (back: boolean) => void;
  placeholder?: string;
}) {
  const { text, type } = useUrlText(props.setting);
  const field = useSlashField(props.slash, props.label);
  return (
    <input
      ref={field}
      type="search"
      class="search-box"
      aria-label={props.label}
      placeholder={props.placeholder ?? props.label}
      spellcheck={false}
      value={text}
      onInput={(event) => type(event.currentTarget.value)}
      onKeyDown={(event) => {
        if (event.key === "Escape") {
          type("");
          field.current?.blur();
        } else if (event.key === "Enter" && props.onEnter) {
          event.preventDefault();
          props.onEnter(event.shiftKey);
        }
      }}
    />
  );
}
