#include "vmm/cli/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "vmm/cli/key_value.h"

namespace calf::vmm {
namespace {

using testing::HasSubstr;

Result<CommandLine> parse(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;)
    words.push_back(word);
  return parse_command_line(words);
}

std::string error_of(const std::string& text) {
  Result<CommandLine> line = parse(text);
  return line.ok() ? "(accepted)" : line.error().message();
}

TEST(KeyValue, SplitsAtSingleCommasOnly) {
  auto list = KeyValueList::parse("a,,b,key=x,,y=z,flag", "first");
  ASSERT_TRUE(list.ok());
  ASSERT_EQ(list->items().size(), 3u);
  EXPECT_EQ(list->items()[0].value, "a,b");
  EXPECT_EQ(list->items()[1].value, "x,y=z");
  EXPECT_FALSE(list->items()[2].has_value);
  EXPECT_FALSE(KeyValueList::parse("a=1,,,b", "").ok() && KeyValueList::parse(",a", "").ok());
}

TEST(KeyValue, ReadsSizes) {
  EXPECT_EQ(*parse_size("x", "512", 1 << 20), uint64_t{512} << 20);
  EXPECT_EQ(*parse_size("x", "1.5G", 1), uint64_t{3} << 29);
  EXPECT_EQ(*parse_size("x", "0x10", 1), 16u);
  for (const char* bad : {"", "G", "-1", "1kk", "1 k", "20E", "1e3", "99999999999999999999"}) {
    EXPECT_FALSE(parse_size("x", bad, 1).ok()) << bad;
  }
}

TEST(CommandLine, TakesAQemuLine) {
  auto line = parse(
      "-enable-kvm -machine q35,accel=kvm -nodefaults -display none -m 512 -smp 2 "
      "-drive file=a.qcow2,if=virtio,cache=none,werror=stop,serial=S1 -cdrom x.iso -no-reboot "
      "-device isa-debug-exit,iobase=0xf4,iosize=4 -serial file:log -smbios "
      "type=1,serial=ds=nocloud");
  ASSERT_TRUE(line.ok()) << line.error().message();
  const MachineConfig& m = line->machine;
  EXPECT_EQ(m.memory_bytes, uint64_t{512} << 20);
  EXPECT_EQ(m.topology.cpus, 2u);
  ASSERT_EQ(m.disks.size(), 2u);
  EXPECT_EQ(m.disks[0].filename, "a.qcow2");
  EXPECT_EQ(m.disks[0].cache, CacheMode::kNone);
  EXPECT_EQ(m.disks[0].on_write_error, DiskErrorAction::kStop);
  EXPECT_EQ(m.disks[0].serial, "S1");
  EXPECT_EQ(m.disks[1].media, DiskMedia::kCdrom);
  EXPECT_TRUE(m.disks[1].read_only);
  EXPECT_TRUE(m.no_reboot);
  EXPECT_EQ(m.debug_exit->port, 0xf4);
  EXPECT_EQ(m.smbios[0].fields[0].second, "ds=nocloud");
  EXPECT_EQ(line->serials[0].path, "log");
}

TEST(CommandLine, OneAndTwoDashesAreTheSame) {
  EXPECT_EQ(parse("--m=1G -smp 1 d.qcow2")->machine.memory_bytes, uint64_t{1} << 30);
  EXPECT_EQ(parse("-m size=2G d.qcow2")->machine.memory_bytes, uint64_t{2} << 30);
}

TEST(CommandLine, PlacesDisksByIndexThenInOrder) {
  auto line = parse("first.qcow2 -hdb second.raw -drive file=third,index=2 fourth");
  ASSERT_TRUE(line.ok());
  std::vector<std::string> names;
  for (const auto& disk : line->machine.disks)
    names.push_back(disk.filename);
  EXPECT_THAT(names, testing::ElementsAre("first.qcow2", "second.raw", "third", "fourth"));
  EXPECT_THAT(error_of("-hda a -drive file=b,index=0"), HasSubstr("two disks"));
}

TEST(CommandLine, ForceIsForOneDiskOrForAll) {
  auto one = parse("-drive file=a,force=on -drive file=b");
  ASSERT_TRUE(one.ok()) << one.error().message();
  EXPECT_TRUE(one->machine.disks[0].force);
  EXPECT_FALSE(one->machine.disks[1].force);
  auto all = parse("--force -drive file=a -drive file=b");
  ASSERT_TRUE(all.ok()) << all.error().message();
  EXPECT_TRUE(all->machine.disks[0].force && all->machine.disks[1].force);
  EXPECT_FALSE(parse("a")->machine.disks[0].force);
  EXPECT_THAT(error_of("-drive file=a,force=maybe"), HasSubstr("force"));
}

TEST(CommandLine, DevicesNameDrives) {
  auto line =
      parse("-device virtio-blk-pci,drive=d0,serial=X,bootindex=1 -drive file=a,if=none,id=d0");
  ASSERT_TRUE(line.ok()) << line.error().message();
  EXPECT_TRUE(line->machine.disks[0].attach);
  EXPECT_EQ(line->machine.disks[0].serial, "X");
  EXPECT_EQ(line->machine.disks[0].boot_index, 1);
  EXPECT_THAT(error_of("-device virtio-blk-pci,drive=nope a"), HasSubstr("names no -drive"));
}

TEST(CommandLine, SmpFillsInLikeQemu) {
  auto topology = [](const std::string& text) {
    return parse("-smp " + text + " d")->machine.topology;
  };
  EXPECT_EQ(topology("4").cores, 4u);
  EXPECT_EQ(topology("8,sockets=2").cores, 4u);
  EXPECT_EQ(topology("8,sockets=2,threads=2").cores, 2u);
  EXPECT_EQ(topology("8,cores=2").sockets, 4u);
  EXPECT_EQ(topology("sockets=2,cores=3,threads=2").cpus, 12u);
  EXPECT_THAT(error_of("-smp 3,sockets=2 d"), HasSubstr("is not 3 CPUs"));
  EXPECT_THAT(error_of("-smp 65 d"), HasSubstr("from 1 to 64"));
  EXPECT_THAT(error_of("-smp 0 d"), HasSubstr("from 1 to 64"));
  EXPECT_THAT(error_of("-smp sockets=16,cores=16 d"), HasSubstr("at most 64"));
}

TEST(CommandLine, SnapshotMeansEveryDisk) {
  auto line = parse("a.qcow2 -snapshot b.qcow2 -cdrom c.iso");
  EXPECT_TRUE(line->machine.disks[0].snapshot);
  EXPECT_TRUE(line->machine.disks[1].snapshot);
  EXPECT_FALSE(line->machine.disks[2].snapshot);
}

TEST(CommandLine, ErrorsNameTheWordAndTheWayOut) {
  EXPECT_THAT(error_of(""), HasSubstr("nothing to boot"));
  EXPECT_THAT(error_of("-memory 3 d"), HasSubstr("unknown option"));
  EXPECT_THAT(error_of("-kernal x"), HasSubstr("did you mean -kernel?"));
  EXPECT_THAT(error_of("-netdev user,id=n"), HasSubstr("no network"));
  EXPECT_THAT(error_of("-m"), HasSubstr("needs a value"));
  EXPECT_THAT(error_of("-m 0 d"), HasSubstr("at least 1M"));
  EXPECT_THAT(error_of("-m 99999999999999999999 d"), HasSubstr("must be a size"));
  EXPECT_THAT(error_of("-append quiet d"), HasSubstr("need -kernel"));
  EXPECT_THAT(error_of("-cpu qemu64 d"), HasSubstr("-cpu host"));
  EXPECT_THAT(error_of("-accel tcg d"), HasSubstr("kvm only"));
  EXPECT_THAT(error_of("-drive file=a,if=ide"), HasSubstr("virtio"));
  EXPECT_THAT(error_of("-serial stdio -serial stdio d"), HasSubstr("one port only"));
  EXPECT_THAT(error_of("-serial tcp::4444 d"), HasSubstr("not a serial port's back end"));
  EXPECT_THAT(error_of("--timeout soon d"), HasSubstr("60s"));
  EXPECT_THAT(error_of("-daemonize -serial stdio d"), HasSubstr("-daemonize"));
}

TEST(CommandLine, HelpNamesEveryOptionWithAText) {
  EXPECT_EQ(parse("--help")->action, CommandLine::Action::kHelp);
  EXPECT_EQ(parse("-version")->action, CommandLine::Action::kVersion);
  EXPECT_THAT(help_text(), HasSubstr("-snapshot"));
}

TEST(CommandLine, SerialForms) {
  auto spec = parse_serial_spec("unix:/tmp/s,,1,server,nowait");
  ASSERT_TRUE(spec.ok());
  EXPECT_EQ(spec->path, "/tmp/s,1");
  EXPECT_TRUE(spec->server);
  EXPECT_FALSE(spec->wait);
  EXPECT_TRUE(parse_serial_spec("mon:stdio")->monitor);
  auto line = parse("-chardev socket,id=c0,path=/x,server=on,wait=off -serial chardev:c0 d");
  ASSERT_TRUE(line.ok()) << line.error().message();
  EXPECT_EQ(line->serials[0].kind, SerialSpec::Kind::kUnix);
  EXPECT_THAT(error_of("-serial chardev:none d"), HasSubstr("no -chardev"));
}

}  // namespace
}  // namespace calf::vmm
