// How the sections share the height of the panel: what need not scroll does not, and what must scroll gets what is left.

export interface IWish {
  /** How high the section would be if nothing in it scrolled. */
  height: number;
  /** How much of it is looked at as a whole, unlike a list, of which a part is as good. */
  whole: number;
  /** Whether it can use more than it needs now: rows come. */
  grows: boolean;
}

/** The height of each section; together they are the space that there is. */
export function divide(space: number, wishes: readonly IWish[]): number[] {
  const heights = wishes.map(() => 0);
  const give = (most: number, wanted: number[]) => share(most, wanted).forEach((part, at) => (heights[at] += part));
  const left = () => heights.reduce((rest, height) => rest - height, space);
  // however long a message is, a third is the lists'
  give(
    (2 * space) / 3,
    wishes.map(({ whole }) => whole)
  );
  give(
    left(),
    wishes.map(({ height }, at) => height - heights[at])
  );
  // what nobody needs now goes to those that grow
  const all = !wishes.some(({ grows }) => grows);
  give(
    left(),
    wishes.map(({ grows }) => (all || grows ? space : 0))
  );
  return heights;
}

/** Equal parts, but to nobody more than is wanted: the rest of such a part is the others'. */
function share(space: number, wanted: number[]): number[] {
  const parts = wanted.map(() => 0);
  let left = space;
  [...wanted.keys()]
    .sort((one, other) => wanted[one] - wanted[other])
    .forEach((at, before) => {
      parts[at] = Math.min(wanted[at], left / (wanted.length - before));
      left -= parts[at];
    });
  return parts;
}
