#include "block/tool/options.h"

#include <getopt.h>

#include <algorithm>

#include "block/tool/help.h"
#include "block/tool/option_list.h"

namespace calf::img {
namespace {

Result<void> define_secret(const Context& context, const OptionList& list) {
  for (const auto& [name, value] : list.items()) {
    static constexpr std::string_view kKnown[] = {"qom-type", "id",    "data", "file",
                                                  "format",   "keyid", "iv"};
    if (std::find(std::begin(kKnown), std::end(kKnown), name) == std::end(kKnown)) {
      return make_error(ErrorKind::kInvalid, "Parameter '{}' is unexpected", name);
    }
  }
  crypto::SecretDefinition secret;
  std::optional<std::string> id = list.get("id");
  if (!id) return make_error(ErrorKind::kInvalid, "Parameter 'id' is missing");
  secret.id = std::move(*id);
  secret.data = list.get("data");
  secret.file = list.get("file");
  secret.key_id = list.get("keyid");
  secret.iv = list.get("iv");
  const std::string format = list.get("format").value_or("raw");
  if (format != "raw" && format != "base64") {
    return make_error(ErrorKind::kInvalid, "Parameter 'format' does not accept value '{}'", format);
  }
  secret.base64 = format == "base64";
  return context.secrets.define(secret);
}

}  // namespace

namespace {

// --threads, which every subcommand takes; no option of theirs has this code.
constexpr int kThreads = kLongOnly + 999;

}  // namespace

Operands parse_options(const Context& context, int argc, char** argv,
                       std::span<const Option> options,
                       const std::function<std::optional<int>(int, std::string)>& handle) {
  std::string letters = ":h";  // ':' first: getopt stays silent and tells the two errors apart
  std::vector<option> longs{{"help", no_argument, nullptr, 'h'}};
  for (const Option& o : options) {
    if (o.code == kOptForce && context.exact()) continue;
    int code = o.code != 0 ? o.code : o.letter;
    if (o.letter != 0) {
      letters += o.letter;
      if (o.takes_value) letters += ':';
    }
    if (o.long_name != nullptr) {
      longs.push_back(
          {o.long_name, o.takes_value ? required_argument : no_argument, nullptr, code});
    }
  }
  if (!context.exact()) longs.push_back({"threads", required_argument, nullptr, kThreads});
  longs.push_back({});

  Operands result;
  optind = 0;  // glibc: start anew
  while (true) {
    int code = ::getopt_long(argc, argv, letters.c_str(), longs.data(), nullptr);
    if (code == -1) break;
    if (code == '?' || code == ':') {
      const char* what = code == '?' ? "unrecognized option" : "missing argument for option";
      result.exit_code = context.usage_error(fmt::format("{} '{}'", what, argv[optind - 1]));
      return result;
    }
    if (code == 'h') {
      print_help(context);
      result.exit_code = kExitOk;
      return result;
    }
    // main has read it.
    if (code == kThreads) continue;
    for (const Option& o : options) {
      if (code == o.letter && o.code != 0) code = o.code;
    }
    result.exit_code = handle(code, optarg != nullptr ? optarg : "");
    if (result.exit_code) return result;
  }
  result.words.assign(argv + optind, argv + argc);
  return result;
}

std::optional<int> check_object(const Context& context, const std::string& definition) {
  if (definition == "help" || definition == "?") {
    put("List of user creatable objects:\n  secret\n");
    return kExitOk;
  }
  Result<OptionList> list = OptionList::parse(definition, "qom-type");
  if (!list.ok()) {
    context.error(list.error());
    return kExitFailure;
  }
  std::string type = list->get("qom-type").value_or("");
  if (type != "secret") {
    context.errorf("Parameter 'qom-type' does not accept value '{}'", type);
    return kExitFailure;
  }
  if (list->wants_help()) {
    put("secret options:\n  data=<string>\n  file=<string>\n  format=<QCryptoSecretFormat>\n"
        "  iv=<string>\n  keyid=<string>\n");
    return kExitOk;
  }
  Result<void> defined = define_secret(context, *list);
  if (defined.ok()) return std::nullopt;
  context.error(defined.error());
  return kExitFailure;
}

}  // namespace calf::img
