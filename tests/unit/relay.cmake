# SPDX-License-Identifier: Apache-2.0
if(TARGET hs_ktls)
  hs_test(relay_test
    SOURCES ${CMAKE_CURRENT_LIST_DIR}/relay_test.cpp
    LIBS hs_ktls hs_test_pki OpenSSL::SSL)
endif()
