# SPDX-License-Identifier: Apache-2.0
hs_test(ktls_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/ktls_test.cpp
  LIBS hs_ktls hs_test_tls hs_test_pki)
