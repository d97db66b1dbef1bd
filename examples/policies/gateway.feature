Feature: What every gateway keeps to
  For terraform-compliance: terraform-compliance -p plan.json -f examples/policies

  Scenario: Consumers have limits
    Given I have gateway_consumers defined
    Then it must contain limits
    And it must contain requests_per_minute

  Scenario: Keys of providers are references
    Given I have gateway_providers defined
    When it has api_key
    Then it must contain api_key
    And its value must match the "^(vault|aws-sm|env|file|lookup)://.*" regex

  Scenario: Listeners accept no old TLS
    Given I have gateway_listeners defined
    When it has tls
    Then it must contain tls
    And it must contain min_version
    And its value must match the "^1\.[23]$" regex
