#include "vmm/cli/command_line.h"

#include <algorithm>
#include <array>
#include <functional>

#include "vmm/cli/key_value.h"
#include "vmm/cli/parsers.h"

namespace calf::vmm {
namespace {

// What has been collected before disks get their places.
struct Draft {
  CommandLine line;
  std::vector<DriveSpec> drives;
  std::vector<std::string> devices;  // read last: they refer to drives
  bool snapshot_all = false;
  bool force_all = false;
  bool nographic = false;
};

struct Option {
  std::string_view name;
  std::string_view value;  // how its value is called in the help; empty if it takes none
  std::string_view help;   // empty: accepted, asks for what calf is anyway
  std::function<Result<void>(Draft&, const std::string&)> apply;
};

Result<void> add_disk(Draft& draft, const std::string& file, std::optional<unsigned> index,
                      DiskMedia media = DiskMedia::kDisk) {
  DriveSpec spec;
  spec.disk.filename = file;
  spec.disk.media = media;
  spec.index = index;
  if (media == DiskMedia::kCdrom) {
    spec.disk.read_only = true;
    spec.disk.format = "raw";
  }
  draft.drives.push_back(std::move(spec));
  return {};
}

Result<void> nothing(Draft&, const std::string&) {
  return {};
}

Result<void> must_be_none(std::string_view option, const std::string& value) {
  if (value == "none") return {};
  return make_error(ErrorKind::kUnsupported, "{} {}: calf has none; leave the option out", option,
                    value);
}

const std::vector<Option>& options() {
  static const std::vector<Option> table = {
      {"hda", "FILE", "first disk (virtio-blk: calf has no IDE); -hdb, -hdc, -hdd follow",
       [](Draft& d, const std::string& v) { return add_disk(d, v, 0); }},
      {"hdb", "FILE", "", [](Draft& d, const std::string& v) { return add_disk(d, v, 1); }},
      {"hdc", "FILE", "", [](Draft& d, const std::string& v) { return add_disk(d, v, 2); }},
      {"hdd", "FILE", "", [](Draft& d, const std::string& v) { return add_disk(d, v, 3); }},
      {"drive", "OPTIONS",
       "file=,format=,if=virtio|none,id=,index=,media=disk|cdrom,readonly=,snapshot=,force=,cache=,"
       "discard=,detect-zeroes=,werror=,rerror=,serial=,queues=",
       [](Draft& d, const std::string& v) -> Result<void> {
         TRY(DriveSpec spec, parse_drive(v));
         d.drives.push_back(std::move(spec));
         return {};
       }},
      {"cdrom", "FILE", "a CD image, read-only",
       [](Draft& d, const std::string& v) { return add_disk(d, v, std::nullopt, DiskMedia::kCdrom); }},
      {"boot", "ORDER", "c (disk) and d (CD), in the order to try",
       [](Draft& d, const std::string& v) -> Result<void> {
         TRY(d.line.machine.boot_order, parse_boot(v));
         return {};
       }},
      {"m", "SIZE", "memory, in MiB or with a suffix (default 128M)",
       [](Draft& d, const std::string& v) -> Result<void> {
         TRY(d.line.machine.memory_bytes, parse_memory(v));
         return {};
       }},
      {"smp", "N", "CPUs, 1 to 64, or cpus=,sockets=,cores=,threads=",
       [](Draft& d, const std::string& v) -> Result<void> {
         TRY(d.line.machine.topology, parse_smp(v));
         return {};
       }},
      {"cpu", "host[,±FEATURE]", "hide or show CPU features",
       [](Draft& d, const std::string& v) -> Result<void> {
         TRY(d.line.machine.cpu_features, parse_cpu(v));
         return {};
       }},
      {"kernel", "FILE", "boot this bzImage or ELF kernel (or iPXE's .lkrn) directly",
       [](Draft& d, const std::string& v) -> Result<void> {
         d.line.machine.kernel = v;
         return {};
       }},
      {"initrd", "FILE", "its initial RAM disk",
       [](Draft& d, const std::string& v) -> Result<void> {
         d.line.machine.initrd = v;
         return {};
       }},
      {"append", "TEXT", "its command line",
       [](Draft& d, const std::string& v) -> Result<void> {
         d.line.machine.append = v;
         return {};
       }},
      {"guest-decompress", "", "let the kernel's own code unpack it (default: calf does, on the host)",
       [](Draft& d, const std::string&) -> Result<void> {
         d.line.machine.guest_decompresses = true;
         return {};
       }},
      {"snapshot", "", "every disk gets a throw-away overlay; no image is changed",
       [](Draft& d, const std::string&) -> Result<void> {
         d.snapshot_all = true;
         return {};
       }},
      {"force", "", "write to overlays although their bases were changed (-drive force=on: to one)",
       [](Draft& d, const std::string&) -> Result<void> {
         d.force_all = true;
         return {};
       }},
      {"scratch", "DIR", "where those overlays stand (default: beside the image)",
       [](Draft& d, const std::string& v) -> Result<void> {
         d.line.machine.scratch_directory = v;
         return {};
       }},
      {"scratch-limit", "SIZE", "how large each of them may grow",
       [](Draft& d, const std::string& v) -> Result<void> {
         TRY(d.line.machine.scratch_limit, parse_size("--scratch-limit", v, 1));
         return {};
       }},
      {"serial", "WHERE",
       "COM1, then COM2 …: stdio (default), mon:stdio, null, none, pty, file:PATH, "
       "unix:PATH[,server=on][,wait=off], chardev:ID",
       [](Draft& d, const std::string& v) -> Result<void> {
         TRY(SerialSpec spec, parse_serial_spec(v));
         if (d.line.serials.size() == 4) return make_error(ErrorKind::kInvalid, "-serial: calf has COM1 to COM4");
         d.line.serials.push_back(std::move(spec));
         return {};
       }},
      {"chardev", "KIND,id=ID", "stdio, null, pty, file, socket: for -serial chardev:ID",
       [](Draft& d, const std::string& v) { return parse_chardev(v, d.line); }},
      {"debugcon", "WHERE", "what the guest writes to port 0xE9",
       [](Draft& d, const std::string& v) -> Result<void> {
         TRY(d.line.debug_console, parse_serial_spec(v));
         return {};
       }},
      {"device", "NAME",
       "virtio-blk-pci,drive=ID,… | virtio-rng-pci | isa-debug-exit,iobase=,iosize= | pvpanic",
       [](Draft& d, const std::string& v) -> Result<void> {
         d.devices.push_back(v);
         return {};
       }},
      {"object", "TYPE,id=ID", "rng-random or rng-builtin, for -device virtio-rng-pci",
       [](Draft&, const std::string& v) { return check_object(v); }},
      {"smbios", "type=N,…", "fields of SMBIOS tables, as cloud-init reads them",
       [](Draft& d, const std::string& v) -> Result<void> {
         TRY(SmbiosEntry entry, parse_smbios(v));
         d.line.machine.smbios.push_back(std::move(entry));
         return {};
       }},
      {"uuid", "UUID", "the machine's UUID",
       [](Draft& d, const std::string& v) -> Result<void> {
         d.line.machine.uuid = v;
         return {};
       }},
      {"name", "TEXT", "the guest's name, for messages",
       [](Draft& d, const std::string& v) -> Result<void> {
         TRY(KeyValueList list, KeyValueList::parse(v, "guest"));
         for (const KeyValue& item : list.items()) {
           if (item.key == "guest") d.line.machine.name = item.value;
         }
         return {};
       }},
      {"rtc", "base=utc|localtime|DATE", "what the clock shows",
       [](Draft& d, const std::string& v) { return parse_rtc(v, d.line.machine); }},
      {"no-reboot", "", "a reset by the guest ends calf",
       [](Draft& d, const std::string&) -> Result<void> {
         d.line.machine.no_reboot = true;
         return {};
       }},
      {"no-shutdown", "", "calf stays when the guest has powered off",
       [](Draft& d, const std::string&) -> Result<void> {
         d.line.machine.no_shutdown = true;
         return {};
       }},
      {"timeout", "TIME", "the guest must have ended by then (60s, 5m); exit codes become strict",
       [](Draft& d, const std::string& v) -> Result<void> {
         TRY(d.line.machine.timeout, parse_duration("--timeout", v));
         d.line.strict_exit_codes = true;
         return {};
       }},
      {"result", "FILE", "write how the run ended, as JSON",
       [](Draft& d, const std::string& v) -> Result<void> {
         d.line.result_file = v;
         return {};
       }},
      {"pidfile", "FILE", "write our process id there",
       [](Draft& d, const std::string& v) -> Result<void> {
         d.line.pid_file = v;
         return {};
       }},
      {"daemonize", "", "go to the background when the guest has started",
       [](Draft& d, const std::string&) -> Result<void> {
         d.line.daemonize = true;
         return {};
       }},
      {"sandbox", "on|off", "forbid us system calls that running a guest does not need",
       [](Draft& d, const std::string& v) -> Result<void> {
         TRY(KeyValueList list, KeyValueList::parse(v, "enable"));
         for (const KeyValue& item : list.items()) {
           if (item.key != "enable") continue;
           TRY(d.line.sandbox, parse_switch(item));
         }
         return {};
       }},
      {"version", "", "tell the version",
       [](Draft& d, const std::string&) -> Result<void> {
         d.line.action = CommandLine::Action::kVersion;
         return {};
       }},
      {"help", "", "this text",
       [](Draft& d, const std::string&) -> Result<void> {
         d.line.action = CommandLine::Action::kHelp;
         return {};
       }},
      {"h", "", "",
       [](Draft& d, const std::string&) -> Result<void> {
         d.line.action = CommandLine::Action::kHelp;
         return {};
       }},
      // ---- Accepted, since they ask for what calf is anyway ----
      {"enable-kvm", "", "", nothing},
      {"accel", "NAME", "", [](Draft&, const std::string& v) { return check_accel(v); }},
      {"machine", "TYPE", "", [](Draft&, const std::string& v) { return check_machine(v); }},
      {"M", "TYPE", "", [](Draft&, const std::string& v) { return check_machine(v); }},
      {"nographic", "", "",
       [](Draft& d, const std::string&) -> Result<void> {
         d.nographic = true;
         return {};
       }},
      {"display", "none", "", [](Draft&, const std::string& v) { return must_be_none("-display", v); }},
      {"vga", "none", "", [](Draft&, const std::string& v) { return must_be_none("-vga", v); }},
      {"net", "none", "", [](Draft&, const std::string& v) { return must_be_none("-net", v); }},
      {"nic", "none", "", [](Draft&, const std::string& v) { return must_be_none("-nic", v); }},
      {"monitor", "none", "", [](Draft&, const std::string& v) { return must_be_none("-monitor", v); }},
      {"parallel", "none", "", [](Draft&, const std::string& v) { return must_be_none("-parallel", v); }},
      {"nodefaults", "", "", nothing},
      {"no-user-config", "", "", nothing},
  };
  return table;
}

// Options of QEMU that people bring along, and what to tell them.
struct Foreign {
  std::string_view name;
  std::string_view instead;
};
constexpr std::array kForeign = {
    Foreign{"netdev", "calf has no network devices"},
    Foreign{"vnc", "calf has no display; the console is the serial port (-serial)"},
    Foreign{"spice", "calf has no display; the console is the serial port (-serial)"},
    Foreign{"curses", "calf has no display; the console is the serial port (-serial)"},
    Foreign{"qmp", "the QMP control socket is not supported yet; SIGTERM presses the power button"},
    Foreign{"mon", "the monitor is not supported yet; SIGTERM presses the power button"},
    Foreign{"loadvm", "restoring a saved guest is not supported yet"},
    Foreign{"incoming", "migration is not supported"},
    Foreign{"S", "starting stopped needs a monitor, which is not supported yet"},
    Foreign{"bios", "there is no firmware to load: BIOS services are part of calf"},
    Foreign{"blockdev", "give -drive file=…,format=…,id=…"},
    Foreign{"fda", "calf has no floppy drive; a floppy image can boot from a CD image (El Torito)"},
    Foreign{"usb", "calf has no USB"},
    Foreign{"dtb", "calf's guests are x86-64"},
    Foreign{"expect", "not supported yet"},
    Foreign{"fail-on", "not supported yet"},
    Foreign{"virtfs", "calf shares no host folders"},
    Foreign{"fsdev", "calf shares no host folders"},
    Foreign{"gdb", "calf has no gdb stub"},
    Foreign{"s", "calf has no gdb stub"},
};

// How many letters have to change to make one word of another.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j)
    row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

Error unknown_option(std::string_view word, std::string_view name) {
  for (const Foreign& foreign : kForeign) {
    if (foreign.name == name)
      return make_error(ErrorKind::kUnsupported, "{}: {}", word, foreign.instead);
  }
  const Option* nearest = nullptr;
  size_t best = 3;
  for (const Option& option : options()) {
    size_t distance = edit_distance(name, option.name);
    if (distance < best && distance < option.name.size()) {
      best = distance;
      nearest = &option;
    }
  }
  if (nearest != nullptr) {
    return make_error(ErrorKind::kInvalid,
                      "{}: unknown option; did you mean -{}? (calf --help lists all)", word,
                      nearest->name);
  }
  return make_error(ErrorKind::kInvalid, "{}: unknown option (calf --help lists all)", word);
}

Result<void> place_disks(Draft& draft) {
  auto& disks = draft.line.machine.disks;
  // Those with an index first, at their places; the others fill the gaps in the order given.
  std::vector<std::optional<DiskConfig>> places;
  for (DriveSpec& drive : draft.drives) {
    if (!drive.index) continue;
    if (places.size() <= *drive.index) places.resize(*drive.index + 1);
    if (places[*drive.index]) {
      return make_error(ErrorKind::kInvalid, "two disks are given for place {}: '{}' and '{}'",
                        *drive.index, places[*drive.index]->filename, drive.disk.filename);
    }
    places[*drive.index] = std::move(drive.disk);
  }
  for (DriveSpec& drive : draft.drives) {
    if (drive.index) continue;
    auto gap =
        std::find_if(places.begin(), places.end(), [](const auto& p) { return !p.has_value(); });
    if (gap == places.end()) {
      places.push_back(std::move(drive.disk));
    } else {
      *gap = std::move(drive.disk);
    }
  }
  for (auto& place : places) {
    if (place) disks.push_back(std::move(*place));
  }
  for (DiskConfig& disk : disks) {
    disk.force |= draft.force_all;
    if (draft.snapshot_all && disk.media == DiskMedia::kDisk) disk.snapshot = true;
  }
  return {};
}

Result<void> resolve_chardev(const CommandLine& line, SerialSpec& spec) {
  if (spec.kind != SerialSpec::Kind::kChardev) return {};
  auto it = line.chardevs.find(spec.path);
  if (it == line.chardevs.end()) {
    return make_error(ErrorKind::kInvalid, "chardev:{}: there is no -chardev with that id",
                      spec.path);
  }
  spec = it->second;
  return {};
}

Result<CommandLine> finish(Draft draft) {
  CommandLine& line = draft.line;
  if (line.action != CommandLine::Action::kRun) return std::move(draft.line);
  TRY_VOID(place_disks(draft));
  for (const std::string& device : draft.devices)
    TRY_VOID(parse_device(device, line));

  if (line.serials.empty()) {
    SerialSpec spec;
    spec.kind = line.daemonize ? SerialSpec::Kind::kNull : SerialSpec::Kind::kStdio;
    spec.monitor = draft.nographic;
    line.serials.push_back(spec);
  }
  for (SerialSpec& spec : line.serials)
    TRY_VOID(resolve_chardev(line, spec));
  if (line.debug_console) {
    TRY_VOID(resolve_chardev(line, *line.debug_console));
    line.machine.debug_port = true;
  }

  auto uses_stdio = [](const SerialSpec& s) { return s.kind == SerialSpec::Kind::kStdio; };
  auto stdio_users = std::count_if(line.serials.begin(), line.serials.end(), uses_stdio) +
                     (line.debug_console && uses_stdio(*line.debug_console) ? 1 : 0);
  if (stdio_users > 1)
    return make_error(ErrorKind::kInvalid, "standard input and output can serve one port only");
  if (line.daemonize && stdio_users != 0) {
    return make_error(ErrorKind::kInvalid,
                      "-daemonize: the console must not be stdio; give -serial file:PATH or null");
  }
  const MachineConfig& machine = line.machine;
  if (machine.kernel.empty() && (!machine.initrd.empty() || !machine.append.empty())) {
    return make_error(ErrorKind::kInvalid, "-initrd and -append need -kernel");
  }
  if (machine.kernel.empty() && machine.disks.empty()) {
    return make_error(
        ErrorKind::kInvalid,
        "nothing to boot: give a disk image (calf disk.qcow2), -cdrom or -kernel; calf --help "
        "lists all");
  }
  return std::move(draft.line);
}

}  // namespace

Result<CommandLine> parse_command_line(const std::vector<std::string>& words) {
  Draft draft;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word.size() < 2 || word[0] != '-') {
      TRY_VOID(add_disk(draft, word, std::nullopt));
      continue;
    }
    std::string_view name = std::string_view(word).substr(word.starts_with("--") ? 2 : 1);
    std::optional<std::string> attached;
    if (size_t equals = name.find('=');
        equals != std::string_view::npos && word.starts_with("--")) {
      attached = name.substr(equals + 1);
      name = name.substr(0, equals);
    }
    auto option = std::find_if(options().begin(), options().end(),
                               [&](const Option& o) { return o.name == name; });
    if (option == options().end()) return unknown_option(word, name);
    std::string value;
    if (option->value.empty()) {
      if (attached) return make_error(ErrorKind::kInvalid, "-{} takes no value", name);
    } else if (attached) {
      value = *attached;
    } else if (i + 1 < words.size()) {
      value = words[++i];
    } else {
      return make_error(ErrorKind::kInvalid, "{} needs a value: {} {}", word, word, option->value);
    }
    TRY_VOID(option->apply(draft, value));
    if (draft.line.action != CommandLine::Action::kRun) break;
  }
  return finish(std::move(draft));
}

std::string help_text() {
  std::string text =
      "usage: calf [options] [disk.qcow2 …]\n"
      "Runs one guest with KVM. Options are QEMU's; -opt and --opt are the same.\n\n";
  for (const Option& option : options()) {
    if (option.help.empty()) continue;
    std::string left =
        fmt::format("  -{}{}{}", option.name, option.value.empty() ? "" : " ", option.value);
    text += left.size() < 28 ? fmt::format("{:<28}{}\n", left, option.help)
                             : fmt::format("{}\n{:28}{}\n", left, "", option.help);
  }
  text +=
      "\nAccepted, since calf is that anyway: -enable-kvm, -accel kvm, -machine pc|q35|microvm, "
      "-nographic,\n"
      "-display none, -vga none, -net none, -nic none, -nodefaults.\n"
      "\nOn the console: Ctrl-a h help, Ctrl-a x end the guest, Ctrl-a b break, Ctrl-a Ctrl-a "
      "sends Ctrl-a.\n"
      "Ctrl-C or SIGTERM presses the guest's power button, a second one ends the guest.\n"
      "\nExit code: 0 power-off (or reset with -no-reboot), (value << 1) | 1 from isa-debug-exit, "
      "1 failure of\n"
      "calf itself. With --timeout: 0 power-off, 2 bad command line, 32 reset, 33 triple fault or "
      "KVM failure,\n"
      "34 panic, 36 timeout, 39 disk error.\n";
  return text;
}

}  // namespace calf::vmm
