/** What the shop sells: climbing gear. Prices in cents. */
export const catalogue = {
  anchor: { name: 'Sling anchor', cents: 3_200 },
  carabiner: { name: 'Locking carabiner', cents: 1_450 },
  harness: { name: 'Harness', cents: 7_900 },
  helmet: { name: 'Helmet', cents: 6_500 },
  portaledge: { name: 'Portaledge', cents: 89_900 },
  rope: { name: 'Rope, 60 m', cents: 18_900 },
} as const

/** The name of a product in the catalogue. */
export type Sku = keyof typeof catalogue

/** All there are, in alphabetical order. */
export const skus = Object.keys(catalogue) as [Sku, ...Sku[]]

/** One line of an order. */
export interface Item {
  readonly sku: Sku
  readonly quantity: number
}

/** What `items` cost together, in cents. */
export const priceOf = (items: readonly Item[]): number =>
  items.reduce((sum, { sku, quantity }) => sum + catalogue[sku].cents * quantity, 0)
