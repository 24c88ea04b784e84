#include "vmm/cli/session.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "vmm/cli/daemon.h"
#include "vmm/cli/exit_status.h"
#include "vmm/cli/sandbox.h"
#include "vmm/cli/signals.h"
#include "vmm/console/terminal.h"
#include "vmm/machine.h"

namespace calf::vmm {
namespace {

constexpr std::string_view kConsoleHelp =
    "Ctrl-a h    this help\r\n"
    "Ctrl-a x    end the guest\r\n"
    "Ctrl-a b    send a break\r\n"
    "Ctrl-a a    send Ctrl-a\r\n";

class Session {
 public:
  Session(const CommandLine& line, Log& log) : line_(line), log_(log) {}
  Result<int> run();

 private:
  Result<std::unique_ptr<devices::ByteChannel>> open_channel(const SerialSpec& spec,
                                                             const std::string& label);
  Result<void> open_consoles(HostServices& host);
  void on_terminate();

  const CommandLine& line_;
  Log& log_;
  std::unique_ptr<EventLoop> loop_;
  std::vector<std::unique_ptr<devices::ByteChannel>> channels_;
  std::unique_ptr<RawTerminal> terminal_;
  std::unique_ptr<Machine> machine_;
  bool button_pressed_ = false;
};

Result<std::unique_ptr<devices::ByteChannel>> Session::open_channel(const SerialSpec& spec,
                                                                    const std::string& label) {
  StdioChannel::Actions actions;
  actions.quit = [this] {
    if (machine_) machine_->stop();
  };
  actions.help = [] {
    [[maybe_unused]] ssize_t n = ::write(STDERR_FILENO, kConsoleHelp.data(), kConsoleHelp.size());
  };
  actions.monitor = [this] { log_.error("the monitor is not supported yet (Ctrl-a h for help)"); };
  if (spec.kind == SerialSpec::Kind::kStdio) {
    TRY(terminal_, RawTerminal::enter(STDIN_FILENO, !spec.monitor));
  }
  return open_serial(spec, label, *loop_, log_, std::move(actions));
}

Result<void> Session::open_consoles(HostServices& host) {
  for (size_t i = 0; i < line_.serials.size(); ++i) {
    TRY(auto channel, open_channel(line_.serials[i], fmt::format("serial{}", i)));
    host.serial[i] = channel.get();
    channels_.push_back(std::move(channel));
  }
  if (line_.debug_console) {
    TRY(auto channel, open_channel(*line_.debug_console, "debugcon"));
    host.debug_port = channel.get();
    channels_.push_back(std::move(channel));
  }
  return {};
}

void Session::on_terminate() {
  if (button_pressed_) {
    machine_->stop();
    return;
  }
  button_pressed_ = true;
  log_.error("power button pressed; Ctrl-C or SIGTERM once more ends the guest at once");
  machine_->press_power_button();
}

Result<int> Session::run() {
  std::optional<Daemon> daemon;
  if (line_.daemonize) {
    TRY(daemon, Daemon::start());
  }
  std::optional<PidFile> pid_file;
  if (!line_.pid_file.empty()) {
    TRY(PidFile file, PidFile::create(line_.pid_file));
    pid_file.emplace(std::move(file));
  }
  block_signals();
  TRY(loop_, EventLoop::create());

  devices::HostClock clock;
  HostServices host{log_, *loop_, clock, {}, nullptr};
  TRY_VOID(open_consoles(host));
  TRY(machine_, Machine::build(line_.machine, host));

  SignalWatch::Actions on_signal;
  on_signal.terminate = [this] { on_terminate(); };
  on_signal.hang_up = [this] { machine_->stop(); };
  on_signal.stop = [this] {
    if (terminal_) terminal_->restore();
  };
  on_signal.resumed = [this] {
    if (terminal_) terminal_->raw();
  };
  TRY(auto signals, SignalWatch::create(*loop_, std::move(on_signal)));

  // A throw-away guest is nobody's once the one who started it is gone.
  bool throw_away = std::any_of(line_.machine.disks.begin(), line_.machine.disks.end(),
                                [](const DiskConfig& d) { return d.snapshot; });
  if (throw_away && !line_.daemonize) ::prctl(PR_SET_PDEATHSIG, SIGHUP);
  if (line_.sandbox) TRY_VOID(enter_sandbox());
  if (daemon) daemon->ready();

  RunResult result = machine_->run();
  machine_.reset();
  terminal_.reset();

  int status = exit_status(result, line_.strict_exit_codes);
  if (!result.text.empty()) log_.write(LogLevel::kError, result.text);
  if (result.reason == EndReason::kTimeout)
    log_.error("the guest had not ended when its time was over (--timeout)");
  if (!line_.result_file.empty()) TRY_VOID(write_result_file(line_.result_file, result, status));
  return status;
}

}  // namespace

int run_session(const CommandLine& line, Log& log) {
  Session session(line, log);
  Result<int> status = session.run();
  if (status.ok()) return *status;
  log.write(LogLevel::kError, status.error().message());
  return 1;
}

}  // namespace calf::vmm
