#include "block/formats/known_formats.h"

#include "block/formats/blkdebug_driver.h"
#include "block/formats/luks_driver.h"
#include "block/formats/nbd_driver.h"
#include "block/formats/null_driver.h"
#include "block/formats/qcow2_driver.h"
#include "block/formats/raw_driver.h"
#include "block/formats/vmdk_driver.h"

namespace calf::block {

FormatTable known_formats() {
  FormatTable table;
  table.add(make_blkdebug_driver());
  table.add(make_luks_driver());
  table.add(make_nbd_driver());
  table.add(make_null_driver("null-aio"));
  table.add(make_null_driver("null-co"));
  table.add(make_qcow2_driver());
  table.add(make_raw_driver());
  table.add(make_vmdk_driver());
  return table;
}

}  // namespace calf::block
