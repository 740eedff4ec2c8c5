// Appends new points to a curve that is already loaded.

import type { CurveAnswer } from "../api";
import { CURVE_FIELDS } from "../constants";

/**
 * A curve whose last bucket is replaced by what `delta` has from there on; the same curve where nothing is new.
 * `delta` was asked for from the x of that bucket.
 */
export function appendPoints(known: CurveAnswer, delta: CurveAnswer): CurveAnswer {
  const last = known.length - 1;
  const from = known.x[last]!;
  let skip = 0;
  while (skip < delta.length && delta.x[skip]! < from) skip += 1;
  const added = delta.length - skip;
  if (
    added === 0 ||
    (added === 1 && delta.count[skip] === known.count[last] && Object.is(delta.last[skip], known.last[last]))
  )
    return known;
  const joined: CurveAnswer = { ...known, state: delta.state, length: last + added };
  for (const field of CURVE_FIELDS) {
    const array = new Float64Array(last + added);
    array.set(known[field].subarray(0, last));
    array.set(delta[field].subarray(skip), last);
    joined[field] = array;
  }
  return joined;
}
