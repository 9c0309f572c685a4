/** What the caches hold: 8 fields, 208 bytes as JSON. */
export interface Product {
  readonly id: string
  readonly name: string
  readonly cents: number
  readonly currency: string
  readonly isActive: boolean
  readonly tags: readonly string[]
  readonly stock: { readonly here: number; readonly there: number }
  readonly text: string
}
export const product = (id: string): Product => ({
  id,
  name: `Product ${id}`,
  cents: 1_999,
  currency: 'EUR',
  isActive: true,
  tags: ['new', 'tea'],
  stock: { here: 3, there: 4 },
  text: 'Picked by hand in May, dried in the shade',
})

/** Keys of 17 characters. */
export const keyOf = (i: number): string => `product-${String(i).padStart(9, '0')}`
export const keys = Array.from({ length: 1_000 }, (_, i) => keyOf(i))
