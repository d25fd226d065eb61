# SPDX-License-Identifier: Apache-2.0
add_library(hs_test_pki STATIC ${CMAKE_SOURCE_DIR}/tests/support/pki.cpp)
target_include_directories(hs_test_pki PUBLIC ${CMAKE_SOURCE_DIR}/tests)
target_link_libraries(hs_test_pki PRIVATE OpenSSL::Crypto)
hs_compile_options(hs_test_pki)
