import { describe, expect, test } from "vitest";
import {
  ago,
  asNumber,
  axisTitle,
  axisValue,
  bytes,
  duration,
  moment,
  number,
  short,
  value,
  withUnit,
} from "../src/format";

describe("numbers", () => {
  test("the names of what is not finite are numbers, other texts are none", () => {
    expect([asNumber("NaN"), asNumber("Infinity"), asNumber("-Infinity"), asNumber("3"), asNumber(null)]).toEqual([
      NaN,
      Infinity,
      -Infinity,
      null,
      null,
    ]);
  });

  test("whole numbers have separators, others five digits, small and large ones exponents", () => {
    expect([124_439_808, 3.20413, 0.0003, 1.2e-7, 1234567.8].map((one) => number(one))).toEqual([
      "124,439,808",
      "3.2041",
      "0.0003",
      "1.2e-7",
      "1.235e6",
    ]);
  });

  test("what is missing, infinite or no number reads as a sign", () => {
    expect([number(null), number(undefined), number(NaN), number(Infinity), number(-Infinity), number(0)]).toEqual([
      "–",
      "–",
      "NaN",
      "∞",
      "−∞",
      "0",
    ]);
  });

  test("large numbers are shortened with the letters of axes", () => {
    expect([999, 1234, 5.2e6, 2.1e9, 1.5e12, 12e15, 3e18, -4500].map(short)).toEqual([
      "999",
      "1.234k",
      "5.2M",
      "2.1G",
      "1.5T",
      "12P",
      "3E",
      "-4.5k",
    ]);
  });
});

describe("units", () => {
  test("a duration has at most its two largest parts", () => {
    expect([0.42, 12, 200, 7500, 273_600].map(duration)).toEqual([
      "0.42 s",
      "12 s",
      "3 min 20 s",
      "2 h 5 min",
      "3 d 4 h",
    ]);
    expect([duration(-5), duration(NaN), duration(null)]).toEqual(["−5 s", "–", "–"]);
  });

  test("bytes are told in binary units", () => {
    expect([512, 1536, 85_041_807_360].map(bytes)).toEqual(["512 B", "1.5 KiB", "79.2 GiB"]);
  });

  test("a share reads in percent, percent as it is", () => {
    expect(withUnit(0.46, "share")).toBe("46 %");
    expect(withUnit(0.9, "%")).toBe("0.9 %");
  });

  test("a unit that changes with the size stands in the value, another behind it", () => {
    expect([
      withUnit(90, "s"),
      withUnit(2048, "bytes"),
      withUnit(3, "rows"),
      withUnit(3, null),
      withUnit(null, "s"),
    ]).toEqual(["1 min 30 s", "2 KiB", "3 rows", "3", "–"]);
  });
});

describe("times", () => {
  test("a moment reads as a local date and clock", () => {
    expect(moment(1_763_731_511)).toBe("2025-11-21 13:25");
    expect(moment(1_763_731_511, true)).toBe("2025-11-21 13:25:11");
  });

  test("what is near is told by how long ago, what is far by its date", () => {
    const now = 1_763_731_511;
    expect([10, 300, 3599, 3600, 3 * 3600, 2 * 86_400, 40 * 86_400].map((passed) => ago(now - passed, now))).toEqual([
      "just now",
      "5 min ago",
      "59 min ago",
      "1 h ago",
      "3 h ago",
      "2 d ago",
      "2025-10-12",
    ]);
  });

  test("a place on an axis reads as the axis has it", () => {
    expect([axisValue("step", 1234), axisValue("tokens", 2.5e9), axisValue("wallclock", 90)]).toEqual([
      "1,234",
      "2.5G",
      "1 min 30 s",
    ]);
    expect([axisTitle("gradient_step"), axisTitle("my/own")]).toEqual(["gradient step", "my/own"]);
  });
});

test("any value of a configuration reads on one line", () => {
  expect([value("adamw"), value({ a: [1, 2] }), value(null), value("NaN"), value(true)]).toEqual([
    "adamw",
    '{"a":[1,2]}',
    "–",
    "NaN",
    "true",
  ]);
});
