/**
 * What the rest of the program asks of nft. Two implementations are held to one contract: the real
 * program (src/linux/nft.ts) and the one in memory (src/testing/fake-nft.ts).
 */
import type { NftDocument } from './nft-document.ts';
import type { NftTable } from './nft-table.ts';

export interface Nft {
  /** Everything but the change itself, the kernel's objections included. */
  check(document: NftDocument): Promise<NftResult>;
  /**
   * One transaction: afterwards the kernel has the old rules whole or the new rules whole. Ask for
   * one at a time: the order of two at once would be anybody's guess.
   */
  apply(document: NftDocument): Promise<NftResult>;
  /** Our table as it is in the kernel. */
  list(): Promise<NftListing>;
}

export type NftResult = { readonly success: true } | NftFailure;

export type NftListing =
  /** No `table` means that it is not there. */
  { readonly success: true; readonly table: NftTable | undefined } | NftFailure;

export interface NftFailure {
  readonly success: false;
  readonly reason: 'refused' | 'crashed' | 'hung' | 'missing' | 'too much output';
  /** For a person: what was tried, what nft said. */
  readonly message: string;
  /**
   * `unchanged`: the rules of before are in place. `unknown`: the old or the new ones are, whole;
   * nft ended before it told, and a listing tells.
   */
  readonly rulesInPlace: 'unchanged' | 'unknown';
  /** The rule that nft refuses, as the config names it; absent when it is not one rule's fault. */
  readonly rule?: string;
  /** The whole comment of that rule. */
  readonly comment?: string;
}
