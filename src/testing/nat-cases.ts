/** All cases for the NAT: each runs through the twin and through the kernel's programs. */
import { natApprovalCases } from './nat-approval-cases.ts';
import type { NatCase } from './nat-case.ts';
import { natFilteringCases } from './nat-filtering-cases.ts';
import { natFragmentCases } from './nat-fragment-cases.ts';
import { natGenerationCases } from './nat-generation-cases.ts';
import { natHairpinCases } from './nat-hairpin-cases.ts';
import { natIcmpCases } from './nat-icmp-cases.ts';
import { natIpv6ErrorCases } from './nat-ipv6-error-cases.ts';
import { natIpv6FilteringCases } from './nat-ipv6-filtering-cases.ts';
import { natIpv6PacketCases } from './nat-ipv6-packet-cases.ts';
import { natIpv6SessionCases } from './nat-ipv6-session-cases.ts';
import { natMappingCases } from './nat-mapping-cases.ts';
import { natTcpCases } from './nat-tcp-cases.ts';
import { natUpdateCases } from './nat-update-cases.ts';
import { natWayCases } from './nat-way-cases.ts';

export const natCases: readonly NatCase[] = [
  ...natMappingCases,
  ...natFilteringCases,
  ...natHairpinCases,
  ...natTcpCases,
  ...natIcmpCases,
  ...natFragmentCases,
  ...natUpdateCases,
  ...natApprovalCases,
  ...natWayCases,
  ...natGenerationCases,
  ...natIpv6PacketCases,
  ...natIpv6SessionCases,
  ...natIpv6ErrorCases,
  ...natIpv6FilteringCases,
];
