/** What is known of the machine's network before there is a config. */

export interface NetworkFacts {
  readonly hostname: string;
  readonly interfaces: readonly InterfaceFacts[];
  /** Unicast routes of all tables and both families. */
  readonly routes: readonly RouteFacts[];
  /** As resolv.conf has them. */
  readonly resolvers: readonly string[];
}

export interface InterfaceFacts {
  readonly name: string;
  readonly kind: InterfaceKind;
  /** As the kernel calls it: `up`, `down`, `lowerlayerdown`, `unknown`. */
  readonly state: string;
  readonly macAddress?: string;
  /** The bridge or bond that it is a part of. */
  readonly master?: string;
  /** For a VLAN and the like: the interface that carries it. */
  readonly carrier?: string;
  readonly addresses: readonly AddressFacts[];
}

/**
 * `ethernet`: a card. `veth`: one end of a pair, as containers and labs have it. `wireless`: a
 * station, which no bridge takes. `virtual`: anything else, by the kernel's word for it.
 */
export type InterfaceKind =
  | { readonly kind: 'ethernet' | 'veth' | 'bond' | 'wireless' | 'loopback' }
  | { readonly kind: 'virtual'; readonly word: string };

export interface AddressFacts {
  /** `192.0.2.2/24` */
  readonly address: string;
  readonly scope: string;
  /** It has a lifetime: DHCP or a router's advertisement gave it. */
  readonly isDynamic: boolean;
}

export interface RouteFacts {
  readonly family: 4 | 6;
  /** `default` or a prefix. */
  readonly destination: string;
  readonly interface: string;
  readonly gateway?: string;
  /** Lower ones win. */
  readonly metric: number;
  /** Who made it: `dhcp`, `static`, `kernel`. */
  readonly protocol: string;
  /** False for tables of their own, which policies choose. */
  readonly isInMainTable: boolean;
  /** The address that packets of our own get here. */
  readonly preferredSource?: string;
}
