ui           = false
api_addr     = "https://vault1:8200"
cluster_addr = "https://127.0.0.1:8201"

storage "raft" {
  path                   = "/var/lib/openbao"
  node_id                = "vault1"
  performance_multiplier = 1 # one node leads at once
}

listener "tcp" {
  address       = "0.0.0.0:8200"
  tls_cert_file = "/etc/openbao/tls.pem"
  tls_key_file  = "/etc/openbao/tls.key"
}

audit "file" "requests" {
  options = {
    file_path = "/var/log/openbao/audit.log"
  }
}
