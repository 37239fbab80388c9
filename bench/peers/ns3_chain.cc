// The peer in virtual time: ns-3, a chain of nodes joined by point-to-point links with a rate and a delay, which carries
// UDP at a constant rate from end to end by static routes. Prints the packets that came through and the seconds it took.
//
// usage: ns3_chain LINKS PACKETS INTERVAL_NS BITS_PER_SECOND DELAY_NS PAYLOAD_BYTES

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "ns3/applications-module.h"
#include "ns3/core-module.h"
#include "ns3/internet-module.h"
#include "ns3/network-module.h"
#include "ns3/point-to-point-module.h"

using namespace ns3;

namespace {

const uint16_t kPort = 9;
const Ipv4Mask kMask("255.255.255.252");

// Link i has the network 10.0.0.0/30 + 4 i; its ends have the hosts 1 and 2.
Ipv4Address address_of(uint32_t link, uint32_t host) { return Ipv4Address(0x0a000000u + (link << 2) + host); }

void connect(PointToPointHelper &wire, Ptr<Node> left, Ptr<Node> right, uint32_t link) {
    NetDeviceContainer ends = wire.Install(left, right);
    for (uint32_t end = 0; end < 2; end++) {
        Ptr<Ipv4> stack = (end ? right : left)->GetObject<Ipv4>();
        uint32_t interface = stack->AddInterface(ends.Get(end));
        stack->AddAddress(interface, Ipv4InterfaceAddress(address_of(link, end + 1), kMask));
        stack->SetUp(interface);
    }
}

}  // namespace

int main(int count, char **arguments) {
    if (count != 7) {
        fprintf(stderr, "usage: %s LINKS PACKETS INTERVAL_NS BITS_PER_SECOND DELAY_NS PAYLOAD_BYTES\n", arguments[0]);
        return 2;
    }
    const uint32_t links = strtoul(arguments[1], nullptr, 10);
    const uint32_t packets = strtoul(arguments[2], nullptr, 10);
    const int64_t interval_ns = strtoll(arguments[3], nullptr, 10);
    const int64_t delay_ns = strtoll(arguments[5], nullptr, 10);

    NodeContainer nodes;
    nodes.Create(links + 1);
    Ipv4StaticRoutingHelper routing;
    InternetStackHelper stack;
    stack.SetIpv6StackInstall(false);
    stack.SetRoutingHelper(routing);
    stack.Install(nodes);

    PointToPointHelper wire;
    wire.SetDeviceAttribute("DataRate", DataRateValue(DataRate(strtoull(arguments[4], nullptr, 10))));
    wire.SetChannelAttribute("Delay", TimeValue(NanoSeconds(delay_ns)));
    for (uint32_t link = 0; link < links; link++) connect(wire, nodes.Get(link), nodes.Get(link + 1), link);
    for (uint32_t node = 0; node + 1 < links; node++) {
        Ptr<Ipv4StaticRouting> table = routing.GetStaticRouting(nodes.Get(node)->GetObject<Ipv4>());
        table->AddNetworkRouteTo(address_of(links - 1, 0), kMask, address_of(node, 2), node ? 2 : 1);
    }

    ApplicationContainer sinks = UdpServerHelper(kPort).Install(nodes.Get(links));
    UdpClientHelper sender(address_of(links - 1, 2), kPort);
    sender.SetAttribute("MaxPackets", UintegerValue(packets));
    sender.SetAttribute("Interval", TimeValue(NanoSeconds(interval_ns)));
    sender.SetAttribute("PacketSize", UintegerValue(strtoul(arguments[6], nullptr, 10)));
    sender.Install(nodes.Get(0)).Start(MicroSeconds(1));

    const auto began = std::chrono::steady_clock::now();
    Simulator::Stop(NanoSeconds(interval_ns * packets + 2 * links * delay_ns) + MilliSeconds(10));
    Simulator::Run();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - began;
    printf("%lu %.6f\n", static_cast<unsigned long>(DynamicCast<UdpServer>(sinks.Get(0))->GetReceived()), taken.count());
    Simulator::Destroy();
    return 0;
}
