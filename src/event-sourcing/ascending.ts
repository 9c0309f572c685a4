/** Index of the first number above `bound` in an ascending list. */
export function firstAbove(list: readonly number[], bound: number): number {
  let [low, high] = [0, list.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if ((list[middle] as number) > bound) high = middle
    else low = middle + 1
  }
  return low
}
