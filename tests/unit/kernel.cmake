# SPDX-License-Identifier: Apache-2.0
# A kernel with net/handshake, in this process.
add_library(hs_test_kernel STATIC ${CMAKE_SOURCE_DIR}/tests/support/fake_kernel.cpp)
target_include_directories(hs_test_kernel PUBLIC ${CMAKE_SOURCE_DIR}/tests)
target_link_libraries(hs_test_kernel PUBLIC hs_transport GTest::gtest)
hs_compile_options(hs_test_kernel)

hs_test(netlink_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/netlink_test.cpp
  LIBS hs_test_kernel hs_transport)

hs_test(keyring_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/keyring_test.cpp
  LIBS hs_keyring PkgConfig::KEYUTILS)

hs_test(request_keys_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/request_keys_test.cpp
  LIBS hs_service)
target_include_directories(request_keys_test PRIVATE ${CMAKE_SOURCE_DIR}/tests)
