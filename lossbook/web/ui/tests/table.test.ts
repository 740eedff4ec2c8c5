import { beforeEach, describe, expect, test } from "vitest";
import { completions, isComplete, quoteName } from "../src/components/filter_text";
import { bestOf, columnNamed, difference, formatCell, isField } from "../src/components/table_columns";
import { asCsv, asMarkdown } from "../src/components/table_text";
import { groupNameOf, sort, sortBy, sortReversed, sortValues } from "../src/components/visible_runs";
import { navigate } from "../src/router";
import type { Names } from "../src/types";
import { metric, row } from "./make";

describe("columns", () => {
  test("are fields of a run, settings, results or metrics", () => {
    expect(columnNamed("created")).toMatchObject({ title: "Created", kind: "moment", metric: false });
    expect(columnNamed("config.model.lr")).toMatchObject({ title: "model.lr", metric: false });
    expect(columnNamed("summary.params")).toMatchObject({ title: "params", metric: false });
    expect(columnNamed("val/loss.min")).toMatchObject({ title: "val/loss min", metric: true });
    expect([isField("name"), isField("state"), isField("config.state")]).toEqual([true, true, false]);
  });

  test("of a metric's best value follow its goal", () => {
    const names = {
      metrics: [
        metric("acc", "quality", { goal: "maximize" }),
        metric("training_loss", "train-loss", { goal: "minimize" }),
      ],
    } as unknown as Names;
    expect([bestOf("acc", names), bestOf("training_loss", names), bestOf("unknown", names)]).toEqual([
      "acc.max",
      "training_loss.min",
      "unknown.min",
    ]);
  });

  test("show values as their kind has them, and nothing where a run has none", () => {
    expect(formatCell(columnNamed("duration"), 90)).toBe("1 min 30 s");
    expect(formatCell(columnNamed("tags"), ["a", "b"])).toBe("a, b");
    expect(formatCell(columnNamed("val/loss"), "NaN")).toBe("NaN");
    expect(formatCell(columnNamed("val/loss"), undefined)).toBe("");
  });

  test("tell how far a value is from the baseline's, where both are finite", () => {
    expect([
      difference(3.5, 3),
      difference(2, 3),
      difference(3, 3),
      difference("NaN", 3),
      difference("text", 3),
    ]).toEqual(["+0.5", "−1", "±0", "", ""]);
  });
});

describe("the order of rows", () => {
  const ordered = (values: unknown[], descending = false) => sortValues(values, (one) => one, descending);

  test("puts numbers before texts, and what is missing or NaN last in either direction", () => {
    expect(ordered(["b", 2, null, "NaN", 1, "a"])).toEqual([1, 2, "a", "b", "NaN", null]);
    expect(ordered(["b", 2, null, "NaN", 1, "a"], true)).toEqual([2, 1, "b", "a", "NaN", null]);
  });

  test("leaves equal ones as they were", () => {
    const runs = [
      { id: "x", lr: 1 },
      { id: "y", lr: 1 },
      { id: "z", lr: 0 },
    ];
    expect(sortValues(runs, ({ lr }) => lr, false).map(({ id }) => id)).toEqual(["z", "x", "y"]);
    expect(sortValues(runs, ({ lr }) => lr, true).map(({ id }) => id)).toEqual(["x", "y", "z"]);
  });

  test("counts infinities as numbers and does not mind the case of texts", () => {
    expect(ordered(["Infinity", 5, "-Infinity"])).toEqual(["-Infinity", 5, "Infinity"]);
    expect(ordered(["b", "A", "c"])).toEqual(["A", "b", "c"]);
  });
});

describe("sorting in the address", () => {
  beforeEach(() => navigate({ project: "p" }, {}));

  test("a column is sorted up, then down, then not at all", () => {
    sortBy("config.lr");
    expect(sort.value).toEqual({ name: "config.lr", descending: false });
    sortBy("config.lr");
    expect(sort.value).toEqual({ name: "config.lr", descending: true });
    sortBy("config.lr");
    expect(sort.value).toBeNull();
  });

  test("another column begins upwards, and one key turns it round", () => {
    sortBy("a");
    sortReversed();
    expect(sort.value).toEqual({ name: "a", descending: true });
    sortBy("b");
    expect(sort.value).toEqual({ name: "b", descending: false });
  });

  test("runs are grouped by a field, those without it together", () => {
    expect(groupNameOf(row("a", { group: "g" }))).toBeNull();
    navigate({ project: "p" }, { group: "group" });
    expect([groupNameOf(row("a", { group: "g" })), groupNameOf(row("b"))]).toEqual(["g", "(none)"]);
    navigate({ project: "p" }, { group: "tags" });
    expect(groupNameOf(row("a", { tags: ["x", "y"] }))).toBe("x, y");
  });
});

describe("a filter that is being typed", () => {
  const names = ["val/loss", "config.lr", "config.layers", "state", "my odd name"];

  test("is completed with names that begin so, the prefix of settings left out, before those that have it inside", () => {
    expect(completions("l", 1, names)).toEqual({ from: 0, found: ["config.lr", "config.layers", "val/loss"] });
    expect(completions("state = 'x' and val", 19, names)).toEqual({ from: 16, found: ["val/loss"] });
  });

  test("is not completed within quotes, after a word of the language, or where the name is whole", () => {
    expect(completions("state = 'va", 11, names).found).toEqual([]);
    expect(completions("state and", 9, names).found).toEqual([]);
    expect(completions("val/loss", 8, names).found).toEqual([]);
  });

  test("quotes a name that is no plain one", () => {
    expect([quoteName("val/loss"), quoteName("my odd name")]).toEqual(["val/loss", "`my odd name`"]);
  });

  test.each(["lr < 3", "a = 'x and y'", "tags contains 'a' and not b = 1", "(a > 1 or b in (1, 2))"])(
    "%j is complete",
    (text) => {
      expect(isComplete(text)).toBe(true);
    },
  );

  test.each(["lr", "lr <", "a = 'x", "a > 1 and", "(a > 1", "a > 1 and b", "a like"])("%j is not complete", (text) => {
    expect(isComplete(text)).toBe(false);
  });
});

describe("a table as text", () => {
  const table = [
    ["run", "lr"],
    ["a|b", "1,5"],
    ['say "x"\n', ""],
  ];

  test("is Markdown with escaped bars and single lines", () => {
    expect(asMarkdown(table)).toBe('| run | lr |\n| --- | --- |\n| a\\|b | 1,5 |\n| say "x"  |  |\n');
  });

  test("is CSV with quotes where a cell needs them", () => {
    expect(asCsv(table)).toBe('run,lr\na|b,"1,5"\n"say ""x""\n",\n');
  });

  test("as CSV begins no formula, and a negative number stays a number", () => {
    const cells = ["=1+1", "+cmd", "-2+3", "@SUM(1)", "\t=1", "-2.5", "-1e-4", "+3", "a=b", ""];
    expect(asCsv([cells])).toBe("'=1+1,'+cmd,'-2+3,'@SUM(1),'\t=1,-2.5,-1e-4,+3,a=b,\n");
  });
});
