// Errors are values.
//
// Result<T> holds a T or an Error. An Error has a stable kind (what a caller may branch on), the
// errno that caused it if there was one, and a text for people. Context is added on the way up:
// "Could not open 'a.qcow2': " + cause.
//
// Propagation is by declaration macros, not statement expressions: g++ 12 dies on the latter around
// co_await.
//
//   TRY(auto header, parse_header(bytes));        // in a function that returns Result
//   TRY_VOID(check(header));
//   CO_TRY(auto n, co_await file.read(...));      // in a coroutine that returns Async<T>
//   CO_TRY_VOID(co_await file.flush());
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace calf {

enum class ErrorKind : uint8_t {
  kIo,           // the host refused a read, write or flush
  kNoSpace,      // ENOSPC, EDQUOT, EFBIG
  kNotFound,     // no such file, snapshot, device
  kPermission,   // EACCES, EPERM, EROFS
  kExists,       // already there
  kLocked,       // another process holds the image
  kInvalid,      // a wrong argument, option or request
  kUnsupported,  // valid, but not a thing we do (named in the text)
  kCorrupt,      // the image breaks its own format
  kReadOnly,     // a write to something opened read-only
  kCancelled,    // stopped on request
  kResource,     // out of memory, descriptors, table space
};

class Error {
 public:
  Error(ErrorKind kind, std::string message) : kind_(kind), message_(std::move(message)) {}
  Error(ErrorKind kind, int sys_errno, std::string message)
      : kind_(kind), errno_(sys_errno), message_(std::move(message)) {}

  // An error of the operating system: kind by errno, text is strerror's with no prefix.
  static Error from_errno(int sys_errno);
  // The same, with `what` and a colon before the text.
  static Error from_errno(int sys_errno, std::string_view what);

  ErrorKind kind() const { return kind_; }
  // The errno behind the error; for errors that had none, the one that fits the kind best (never
  // 0).
  int sys_errno() const;
  const std::string& message() const { return message_; }

  // Puts `prefix` and ": " before the text.
  Error with_context(std::string_view prefix) &&;
  Error with_context(std::string_view prefix) const&;

 private:
  ErrorKind kind_;
  int errno_ = 0;
  std::string message_;
};

template <class... Args>
Error make_error(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  return Error(kind, fmt::format(format, std::forward<Args>(args)...));
}

template <class T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
  using Base = tl::expected<T, Error>;

 public:
  using Base::Base;
  Result(Error error) : Base(tl::unexpect, std::move(error)) {}
  bool ok() const { return this->has_value(); }
};

template <>
class [[nodiscard]] Result<void> : public tl::expected<void, Error> {
  using Base = tl::expected<void, Error>;

 public:
  using Base::Base;
  Result() = default;
  Result(Error error) : Base(tl::unexpect, std::move(error)) {}
  bool ok() const { return this->has_value(); }
};

}  // namespace calf

#define CALF_CONCAT2(a, b) a##b
#define CALF_CONCAT(a, b) CALF_CONCAT2(a, b)

#define CALF_TRY_IMPL(ret, tmp, decl, ...) \
  auto tmp = (__VA_ARGS__);                \
  if (!tmp.has_value()) [[unlikely]]       \
    ret std::move(tmp.error());            \
  decl = std::move(*tmp)
#define CALF_TRY_VOID_IMPL(ret, tmp, ...) \
  do {                                    \
    auto tmp = (__VA_ARGS__);             \
    if (!tmp.has_value()) [[unlikely]]    \
      ret std::move(tmp.error());         \
  } while (false)

#define TRY(decl, ...) CALF_TRY_IMPL(return, CALF_CONCAT(try_result_, __LINE__), decl, __VA_ARGS__)
#define TRY_VOID(...) CALF_TRY_VOID_IMPL(return, CALF_CONCAT(try_result_, __LINE__), __VA_ARGS__)
#define CO_TRY(decl, ...) \
  CALF_TRY_IMPL(co_return, CALF_CONCAT(try_result_, __LINE__), decl, __VA_ARGS__)
#define CO_TRY_VOID(...) \
  CALF_TRY_VOID_IMPL(co_return, CALF_CONCAT(try_result_, __LINE__), __VA_ARGS__)
