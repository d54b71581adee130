/*
 * Counts packets by protocol, at XDP or at tc, where no other program does. It never changes or
 * drops a packet.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "gateway/protocol-counting.h"

SEC("xdp")
int count_protocols_xdp(struct xdp_md *context)
{
	void *data = (void *)(long)context->data;
	void *data_end = (void *)(long)context->data_end;

	count(data, data_end, context->ingress_ifindex, data_end - data, PACKET_DIRECTION_INGRESS);
	return XDP_PASS;
}

SEC("tc")
int count_protocols_tc_ingress(struct __sk_buff *skb)
{
	count_skb(skb, PACKET_DIRECTION_INGRESS);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int count_protocols_tc_egress(struct __sk_buff *skb)
{
	count_skb(skb, PACKET_DIRECTION_EGRESS);
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
